"""The command line as `python -m icl_local`, the same as the `icl` script."""

from icl_local.cli import main

if __name__ == "__main__":
    main()
