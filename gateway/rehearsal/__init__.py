"""A synthetic participant on the real path: `modality` is a mammography unit as far as a worklist provider can see."""
