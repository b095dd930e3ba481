"""A whole hospital on this machine, to watch: relay emulator, web app, gateway, modality.

No serving code imports it.
"""
