// SPDX-License-Identifier: GPL-2.0-only
/*
 * HELLO and the device information.
 *
 * A chain of requests, each sent when the one before it is answered: HELLO,
 * then DEVICE_INFO piece by piece, then the whole replaces what readers see.
 * No thread ever waits in here. While the device is starting, the chain begins
 * again after a pause; whenever the device says that something has changed, at
 * once. HELLO with the same nonce keeps the sessions.
 *
 * Readers take no lock: processes must get an answer whatever the device does.
 */
#include <linux/jiffies.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>

#include "compat.h"
#include "driver.h"

#define RETRY_FIRST	msecs_to_jiffies(10)
#define RETRY_MOST	msecs_to_jiffies(1000)

static void information_release(struct kref *ref)
{
	struct vcompute_information *info = container_of(ref, struct vcompute_information, ref);
	u32 i;

	for (i = 0; i < info->page_count; i++)
		put_page(info->pages[i]);
	kfree_rcu(info, rcu);
}

static void information_put(struct vcompute_information *info)
{
	if (info)
		kref_put(&info->ref, information_release);
}

static struct vcompute_information *information_new(u32 bytes)
{
	struct vcompute_information *info = kzalloc(sizeof(*info), GFP_KERNEL);
	u32 count = DIV_ROUND_UP(bytes, PAGE_SIZE);

	if (!info)
		return NULL;
	kref_init(&info->ref);
	info->bytes = bytes;
	while (info->page_count < count) {
		struct page *page = alloc_page(GFP_KERNEL | __GFP_ZERO);

		if (!page) {
			information_put(info);
			return NULL;
		}
		info->pages[info->page_count++] = page;
	}
	return info;
}

static void replace(struct vcompute_device *dev, struct vcompute_information *info)
{
	struct vcompute_information *old;

	spin_lock_irq(&dev->info_lock);
	old = rcu_replace_pointer(dev->info, info, lockdep_is_held(&dev->info_lock));
	spin_unlock_irq(&dev->info_lock);
	information_put(old);
}

static void begin_after(struct vcompute_device *dev, unsigned long delay)
{
	if (READ_ONCE(dev->control.online))
		queue_delayed_work(vcompute_wq, &dev->refresh_work, delay);
}

/* The chain has ended; it begins again where something has changed meanwhile, or if it must be repeated. */
static void end(struct vcompute_device *dev, bool repeat)
{
	information_put(dev->incoming);
	dev->incoming = NULL;
	clear_bit(REFRESH_BUSY, &dev->refresh_flags);
	smp_mb__after_atomic(); /* vcompute_info_refresh() sets WANTED, then looks at BUSY */
	if (test_bit(REFRESH_WANTED, &dev->refresh_flags)) {
		begin_after(dev, 0);
	} else if (repeat) {
		begin_after(dev, dev->refresh_delay);
		dev->refresh_delay = min(2 * dev->refresh_delay, RETRY_MOST);
	} else {
		dev->refresh_delay = RETRY_FIRST;
	}
}

static void set_state(struct vcompute_device *dev, u32 state)
{
	struct vcompute_information *info;

	if (vcompute_device_lost(dev))
		return;
	WRITE_ONCE(dev->state, state);
	rcu_read_lock();
	info = rcu_dereference(dev->info);
	if (info)
		WRITE_ONCE(info->state, state);
	rcu_read_unlock();
	if (state == VIRTIO_COMPUTE_STATE_FAILED)
		vcompute_sessions_died(dev);
}

static void piece_arrived(struct vcompute_request *request);

/* Asks for the next piece of dev->incoming. */
static bool ask_piece(struct vcompute_device *dev)
{
	struct vcompute_information *info = dev->incoming;
	u32 offset = dev->incoming_offset;
	u32 bytes = min_t(u32, info->bytes - offset, INFO_PAGES_PER_MESSAGE * PAGE_SIZE);
	struct vcompute_request *request;

	request = vcompute_request_new(dev, VIRTIO_COMPUTE_DEVICE_INFO,
				       sizeof(request->message.device_info), 0, piece_arrived);
	if (!request)
		return false;
	request->message.device_info.offset = cpu_to_le32(offset);
	request->message.device_info.length = cpu_to_le32(bytes);
	request->data = info->pages + offset / PAGE_SIZE;
	request->data_bytes = bytes;
	/* The pages stay until the device has answered or was reset: then this chain ends. */
	vcompute_request_submit(request);
	vcompute_request_put(request);
	return true;
}

/* Whether all pieces are of the state that HELLO told of. */
static bool information_is_whole(const struct vcompute_information *info)
{
	const struct virtio_compute_info_header *header = page_address(info->pages[0]);

	return info->bytes >= sizeof(*header) &&
	       header->magic == cpu_to_le32(VIRTIO_COMPUTE_INFO_MAGIC) &&
	       header->generation == cpu_to_le32(info->generation);
}

static void piece_arrived(struct vcompute_request *request)
{
	struct vcompute_device *dev = request->dev;
	struct vcompute_information *info = dev->incoming;

	if (request->reset) {
		end(dev, false);
		return;
	}
	if (request->status != VIRTIO_COMPUTE_STATUS_OK || request->answered != request->data_bytes) {
		end(dev, true);
		return;
	}
	dev->incoming_offset += request->answered;
	if (dev->incoming_offset < info->bytes) {
		if (!ask_piece(dev))
			end(dev, true);
		return;
	}
	if (!information_is_whole(info)) {
		end(dev, true);
		return;
	}
	dev->incoming = NULL;
	info->state = dev->incoming_state;
	replace(dev, info);
	set_state(dev, dev->incoming_state);
	dev_dbg(&dev->vdev->dev, "device information: %u bytes, generation %u\n", info->bytes,
		info->generation);
	end(dev, false);
}

static bool has_generation(struct vcompute_device *dev, u32 generation)
{
	struct vcompute_information *info;
	bool same;

	rcu_read_lock();
	info = rcu_dereference(dev->info);
	same = info && info->generation == generation;
	rcu_read_unlock();
	return same;
}

static void greeted(struct vcompute_request *request)
{
	struct vcompute_device *dev = request->dev;
	const struct virtio_compute_hello_reply *reply = &request->reply.hello;
	u32 state, bytes;

	if (request->reset) {
		end(dev, false);
		return;
	}
	if (request->status == VIRTIO_COMPUTE_STATUS_UNSUPPORTED) {
		dev_err(&dev->vdev->dev, "the device does not know protocol version %u\n",
			VIRTIO_COMPUTE_PROTOCOL_VERSION);
		set_state(dev, VIRTIO_COMPUTE_STATE_FAILED);
		end(dev, false);
		return;
	}
	if (request->status != VIRTIO_COMPUTE_STATUS_OK) {
		end(dev, true);
		return;
	}

	state = le32_to_cpu(reply->state);
	bytes = le32_to_cpu(reply->info_bytes);
	if (state == VIRTIO_COMPUTE_STATE_FAILED) {
		set_state(dev, state);
		end(dev, false);
		return;
	}
	if (state == VIRTIO_COMPUTE_STATE_STARTING || !bytes) {
		set_state(dev, VIRTIO_COMPUTE_STATE_STARTING);
		end(dev, true);
		return;
	}
	if (bytes > VIRTIO_COMPUTE_MAX_INFO_BYTES) {
		dev_err(&dev->vdev->dev, "%u bytes of device information are more than %u\n", bytes,
			VIRTIO_COMPUTE_MAX_INFO_BYTES);
		set_state(dev, VIRTIO_COMPUTE_STATE_FAILED);
		end(dev, false);
		return;
	}
	if (has_generation(dev, le32_to_cpu(reply->generation))) {
		set_state(dev, state);
		end(dev, false);
		return;
	}

	dev->incoming = information_new(bytes);
	dev->incoming_offset = 0;
	dev->incoming_state = state;
	if (dev->incoming)
		dev->incoming->generation = le32_to_cpu(reply->generation);
	if (!dev->incoming || !ask_piece(dev))
		end(dev, true);
}

static void refresh_work(struct work_struct *work)
{
	struct vcompute_device *dev =
		container_of(to_delayed_work(work), struct vcompute_device, refresh_work);
	struct vcompute_request *request;

	if (test_and_set_bit(REFRESH_BUSY, &dev->refresh_flags))
		return; /* the chain looks at WANTED when it ends */
	clear_bit(REFRESH_WANTED, &dev->refresh_flags);
	request = vcompute_request_new(dev, VIRTIO_COMPUTE_HELLO, sizeof(request->message.hello),
				       sizeof(request->reply.hello), greeted);
	if (!request) {
		end(dev, true);
		return;
	}
	request->message.hello.boot_nonce = cpu_to_le64(dev->boot_nonce);
	request->message.hello.version = cpu_to_le32(VIRTIO_COMPUTE_PROTOCOL_VERSION);
	vcompute_request_submit(request);
	vcompute_request_put(request);
}

/**
 * vcompute_info_init() - prepare for fetching
 * @dev: the new device
 */
void vcompute_info_init(struct vcompute_device *dev)
{
	spin_lock_init(&dev->info_lock);
	INIT_DELAYED_WORK(&dev->refresh_work, refresh_work);
	dev->refresh_delay = RETRY_FIRST;
}

/**
 * vcompute_info_refresh() - fetch state and device information (again)
 * @dev: the device
 *
 * Context: any.
 */
void vcompute_info_refresh(struct vcompute_device *dev)
{
	set_bit(REFRESH_WANTED, &dev->refresh_flags);
	smp_mb__after_atomic(); /* the end of a chain clears BUSY, then looks at WANTED */
	if (!test_bit(REFRESH_BUSY, &dev->refresh_flags) && READ_ONCE(dev->control.online))
		mod_delayed_work(vcompute_wq, &dev->refresh_work, 0);
}

/**
 * vcompute_info_stop() - fetch no more, and forget the device information
 * @dev: the device, reset, its requests finished
 *
 * Context: process.
 */
void vcompute_info_stop(struct vcompute_device *dev)
{
	cancel_delayed_work_sync(&dev->refresh_work);
	flush_work(&dev->reply_work);
	cancel_delayed_work_sync(&dev->refresh_work);
	dev->refresh_flags = 0;
	replace(dev, NULL);
	dev->refresh_delay = RETRY_FIRST;
	WRITE_ONCE(dev->state, VIRTIO_COMPUTE_STATE_STARTING);
}

/* Whoever reads state and device information sees both as the device said them together. */
static void describe(struct vcompute_device *dev, const struct vcompute_information *info,
		     struct vcompute_info *out)
{
	u32 state = info ? READ_ONCE(info->state) : READ_ONCE(dev->state);

	if (READ_ONCE(dev->control.broken))
		state = VIRTIO_COMPUTE_STATE_FAILED;
	else if (!info && state != VIRTIO_COMPUTE_STATE_FAILED)
		state = VIRTIO_COMPUTE_STATE_STARTING;
	*out = (struct vcompute_info){
		.version = VIRTIO_COMPUTE_PROTOCOL_VERSION,
		.state = state,
		.generation = info ? info->generation : 0,
		.info_bytes = info ? info->bytes : 0,
		.flags = vcompute_info_flags(),
	};
}

static struct vcompute_information *information_get(struct vcompute_device *dev)
{
	struct vcompute_information *info;

	rcu_read_lock();
	do {
		info = rcu_dereference(dev->info);
		/* One that has just been replaced cannot be had, but its successor can. */
	} while (info && !kref_get_unless_zero(&info->ref));
	rcu_read_unlock();
	return info;
}

/**
 * vcompute_info_get() - answer the INFO ioctl
 * @dev: the device
 * @out: to be filled in
 *
 * Context: any; takes no lock.
 */
void vcompute_info_get(struct vcompute_device *dev, struct vcompute_info *out)
{
	rcu_read_lock();
	describe(dev, rcu_dereference(dev->info), out);
	rcu_read_unlock();
}

static size_t copy_out(char __user *to, size_t room, const void *from, size_t bytes)
{
	size_t copied = min(room, bytes);

	return copied - copy_to_user(to, from, copied);
}

/**
 * vcompute_info_read() - answer read(): what INFO says, and the device information that it says it of
 * @dev: the device
 * @to: buffer of the process
 * @size: room in it
 *
 * Context: process; takes no lock, and waits for nothing but @to's own pages.
 * Return: bytes, or -EFAULT.
 */
ssize_t vcompute_info_read(struct vcompute_device *dev, char __user *to, size_t size)
{
	struct vcompute_information *info = information_get(dev);
	struct vcompute_info about;
	size_t copied;
	u32 i;

	describe(dev, info, &about);
	size = min_t(size_t, size, sizeof(about) + about.info_bytes);
	copied = copy_out(to, size, &about, sizeof(about));
	for (i = 0; copied < size && copied == sizeof(about) + i * PAGE_SIZE; i++)
		copied += copy_out(to + copied, size - copied, page_address(info->pages[i]), PAGE_SIZE);
	information_put(info);
	return copied || !size ? copied : -EFAULT;
}

/**
 * vcompute_info_mmap() - map the device information for reading
 * @dev: the device
 * @vma: the mapping, from offset VCOMPUTE_MMAP_INFO
 *
 * A mapping shows one state of the information, also after it has changed.
 *
 * Return: 0 or a negative error.
 */
int vcompute_info_mmap(struct vcompute_device *dev, struct vm_area_struct *vma)
{
	struct vcompute_information *info;
	unsigned long pages = vma_pages(vma);
	int error = -EINVAL;

	if (vma->vm_flags & VM_WRITE)
		return -EACCES;
	info = information_get(dev);
	if (!info)
		return -EAGAIN;
	if (pages <= info->page_count) {
		vm_flags_mod(vma, VM_DONTEXPAND | VM_MIXEDMAP, VM_MAYWRITE);
		error = vm_insert_pages(vma, vma->vm_start, info->pages, &pages);
	}
	information_put(info);
	return error;
}
