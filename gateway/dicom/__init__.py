"""The modalities' words ↔ ours: Verification, Modality Worklist and MPPS as the standard has them.

An engine (`server_pynetdicom`) carries bytes to and from one `Responder`, which knows neither sockets nor pynetdicom.
"""
