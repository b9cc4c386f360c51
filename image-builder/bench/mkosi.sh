#!/bin/bash
# The same packages as an image by image-builder and by mkosi, in pairs, wall time and CPU time of each.
#
#   image-builder/bench/mkosi.sh DIRECTORY [PAIRS]
#
# Needs root, debootstrap and unshare, a release build of image-builder, and room for 4 GB in DIRECTORY. mkosi is Debian unstable's, in
# a tool tree of its own. Both have all packages downloaded and their tools unpacked; neither has any stage cached. Our programs
# are compiled already, and what is left of that step (cargo finds nothing to do) is taken off our time.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
directory="$(mkdir -p "$1" && cd "$1" && pwd)"
pairs="${2:-3}"
mirror="${MIRROR:-http://deb.debian.org/debian}"
builder="$here/../../target/release/image-builder"
recipe="$here/../recipes/bench.yaml"
tree="$directory/tree"

if [ ! -e "$tree/ready" ]; then
    debootstrap --variant=minbase sid "$tree" "$mirror"
    # A package's script wants to see /proc.
    unshare --mount sh -c 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"' "$tree" \
        apt-get install -y -q --no-install-recommends mkosi systemd-repart systemd-ukify systemd-boot-efi \
        erofs-utils cryptsetup-bin mtools dosfstools kmod zstd cpio debian-archive-keyring ca-certificates python3-pefile \
        openssl uidmap
    touch "$tree/ready"
fi
rm -rf "$tree/bench/mkosi.repart" "$tree/bench/mkosi.sandbox"
mkdir -p "$tree/bench/cache" "$tree/bench/packages" "$tree/bench/out"
cp -r "$here/mkosi.conf" "$here/mkosi.repart" "$here/mkosi.sandbox" "$tree/bench/"

# mkosi wants to be root of a mount of its own.
mkosi() {
    unshare --mount bash -c '
        mount --make-rprivate / && mount --bind "$1" "$1" && cd "$1"
        mount -t proc proc proc && mount --rbind /sys sys && mount --rbind /dev dev
        mkdir -p old && pivot_root . old && umount -l /old && cd /bench && exec mkosi -f build' sh "$tree"
}

# A store with downloads, compiled programs (and what cargo says of them) and tools, and nothing that is made of the image's packages.
fresh_store() {
    rm -rf "$directory/fresh" "$directory/image"
    mkdir "$directory/fresh"
    cp -al "$directory/store/sha256" "$directory/store/trees" "$directory/fresh/"
    for kept in target programs sources models ingredients; do
        [ ! -e "$directory/store/$kept" ] || ln -s "$directory/store/$kept" "$directory/fresh/$kept"
    done
    # The kernel's tree, and the firmware's: they are no tools.
    for of_image in "$directory"/fresh/trees/*; do
        if [ -d "$of_image/boot" ] || [ ! -d "$of_image/usr/bin" ]; then rm -rf "$of_image"; fi
    done
}

[ -e "${recipe%.yaml}.lock.json" ] || "$builder" lock "$recipe" --mirror "$mirror"
"$builder" build "$recipe" --store "$directory/store" --mirror "$mirror" --out "$directory/image" >/dev/null
cp "$directory/image/initrd" "$tree/bench/initrd.cpio"
mkosi >"$directory/mkosi.log" 2>&1

TIMEFORMAT='%R s wall, %U s user, %S s system'
for pair in $(seq "$pairs"); do
    echo "pair $pair"
    fresh_store
    sync
    echo -n "  mkosi:         "; time mkosi >"$directory/mkosi.log" 2>&1
    sync
    echo -n "  image-builder: "
    time "$builder" build "$recipe" --store "$directory/fresh" --out "$directory/image" --json >"$directory/built.json" 2>"$directory/built.log"
    echo "  stages: $(python3 -c 'import json,sys; print(json.load(open(sys.argv[1])).get("stages"))' "$directory/built.json")"
done
ls -ls "$directory/image" "$tree/bench/out"
