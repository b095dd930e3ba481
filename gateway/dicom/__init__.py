"""The modalities' words ↔ ours: Verification, Modality Worklist and MPPS as the standard has them.

An engine (`engines` names both) carries bytes to and from one `Responder`, which knows neither sockets nor pynetdicom.
"""
