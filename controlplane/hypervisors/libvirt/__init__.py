"""Virtual machines through libvirt (https://libvirt.org/formatdomain.html): see driver.LibvirtHypervisor."""
