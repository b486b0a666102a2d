"""The report's plots; each module draws the plots of one subject with the kit in drawing.py."""
