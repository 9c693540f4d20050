"""`python -m ettin_data.cli`."""

from ettin_data.cli.main import main

if __name__ == "__main__":
    main()
