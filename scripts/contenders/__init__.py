"""Programs that `icl bench` runs in processes of their own; installed, but not imported by the package."""
