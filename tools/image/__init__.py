"""Builds the image of the system VMs from image-build/ and the appliance's packages: ``python -m tools.image``."""
