"""The worklist gateway: appointments in over Azure Relay, a DICOM worklist and MPPS for modalities, status back."""

__version__ = "0.1.0"
