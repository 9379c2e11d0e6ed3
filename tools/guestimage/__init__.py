"""Builds the small guest for libvirt: Debian's kernel, busybox, the QEMU guest agent."""
