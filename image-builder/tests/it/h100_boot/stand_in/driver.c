// A driver called `nvidia` that takes the stand-in for a GPU and does nothing with it, so that a boot gets as far as the agent. It is in
// the initrd of a test and in no image.
#include <linux/module.h>
#include <linux/pci.h>

static int take(struct pci_dev *device, const struct pci_device_id *id)
{
	return 0;
}

static const struct pci_device_id ids[] = { { PCI_DEVICE(0x10de, 0x2330) }, {} };

static struct pci_driver taking = { .name = "nvidia", .id_table = ids, .probe = take };

module_pci_driver(taking);
MODULE_DESCRIPTION("Stand-in for a GPU's driver, for tests");
MODULE_LICENSE("Dual MIT/GPL");
