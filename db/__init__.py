"""Data files of icl-local, read through icl_local.resources."""
