// Gives each of QEMU's test devices (docs/specs/pci-testdev.rst) the ids of an H100, and prints which character devices there are once
// nvidia-uvm is loaded. It is in the initrd of a test and in no image.
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/pci.h>

static int print_devices(struct notifier_block *self, unsigned long state, void *module)
{
	static char text[4096];
	struct file *file;
	char *rest = text, *line;
	loff_t at = 0;

	if (state != MODULE_STATE_LIVE || strcmp(((struct module *)module)->name, "nvidia_uvm"))
		return NOTIFY_DONE;
	file = filp_open("/proc/devices", O_RDONLY, 0);
	if (IS_ERR(file))
		return NOTIFY_DONE;
	if (kernel_read(file, text, sizeof(text) - 1, &at) > 0)
		while ((line = strsep(&rest, "\n")))
			if (strstr(line, "nvidia"))
				pr_info("stand_in: device %s\n", line);
	filp_close(file, NULL);
	return NOTIFY_DONE;
}

static struct notifier_block loaded = { .notifier_call = print_devices };

static int __init stand_in(void)
{
	struct pci_dev *device = NULL;

	while ((device = pci_get_device(0x1b36, 0x0005, device))) {
		device->vendor = 0x10de;
		device->device = 0x2330;
		device->class = PCI_CLASS_DISPLAY_3D << 8;
		pr_info("stand_in: %s is an H100\n", pci_name(device));
	}
	return register_module_notifier(&loaded);
}

module_init(stand_in);
MODULE_DESCRIPTION("Stand-in for a GPU, for tests");
MODULE_LICENSE("Dual MIT/GPL");
