"""What is measured, against what, as ratios within one run: `python -m bench`."""
