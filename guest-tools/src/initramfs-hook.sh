#!/bin/sh
# Keeps the preloaded CUDA library out of the initial RAM disk. While it is preloaded, `ldd` names it for every program,
# and initramfs-tools copies what `ldd` names.
case "$1" in
prereqs) exit 0 ;;
esac
for directory in "$DESTDIR"/usr/lib/* "$DESTDIR"/usr/lib* "$DESTDIR"/lib/* "$DESTDIR"/lib*; do
    [ -e "$directory/virtio-compute/preload.so" ] || [ -e "$directory/libcuda.so.1" ] || continue
    rm -f "$directory"/virtio-compute/preload.so "$directory"/libcuda.so*
    rmdir "$directory/virtio-compute" 2>/dev/null
done
rm -f "$DESTDIR/etc/ld.so.preload"
exit 0
