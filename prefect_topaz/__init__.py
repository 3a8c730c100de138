"""Upscale videos with hosted Topaz models from Prefect."""
