"""Builds small guests for libvirt: Debian's kernel, busybox, dropbear, the QEMU guest agent."""
