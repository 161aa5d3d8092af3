//! Programs that are never touched: no system call, no look at the policy, nothing that could be said in their favour.
//!
//! A program is here if a mistake in it locks people out of the system or keeps it from starting, or if it lives in a
//! sandbox that kills for an unexpected system call. CUDA still works in each of them, from its first call on. Names
//! are compared as the kernel keeps them, by their first 15 bytes.

use shim_policy::matches;

/// Whether this program is left alone.
pub(super) fn touched(name: &[u8]) -> bool {
    // Every process of the system comes by here, so only a few words are looked at.
    let Some(&first) = name.first() else { return false };
    SORTED.words_with(first).split(|&byte| byte == b' ').any(|listed| matches(listed, name))
}

/// The words of all groups by their first byte, each with a space behind it. They are one text: a list of texts would be
/// a list of addresses, which the dynamic linker would have to write in every process.
struct Sorted {
    words: [u8; SORTED_BYTES],
    /// Where the words with each first byte begin, and at the end how long all are.
    starts: [u16; FIRST_BYTES + 1],
}

static SORTED: Sorted = Sorted::new();
const SORTED_BYTES: usize = sizes()[FIRST_BYTES] as usize;
/// Words begin with an ASCII character.
const FIRST_BYTES: usize = 128;

impl Sorted {
    const fn new() -> Self {
        let starts = sizes();
        let (mut words, mut ends) = ([b' '; SORTED_BYTES], starts);
        let mut group = 0;
        while group < GROUPS.len() {
            let (text, mut place) = (GROUPS[group].as_bytes(), 0);
            while place < text.len() {
                if !text[place].is_ascii_whitespace() {
                    let first = text[place] as usize;
                    while !text[place].is_ascii_whitespace() {
                        words[ends[first] as usize] = text[place];
                        ends[first] += 1;
                        place += 1;
                    }
                    ends[first] += 1;
                }
                place += 1;
            }
            group += 1;
        }
        Self { words, starts }
    }

    fn words_with(&self, first: u8) -> &[u8] {
        let start = |first: usize| self.starts.get(first).map_or(SORTED_BYTES, |&start| usize::from(start));
        let first = usize::from(first);
        self.words.get(start(first)..start(first + 1)).unwrap_or_default()
    }
}

/// Where the words with each first byte begin.
const fn sizes() -> [u16; FIRST_BYTES + 1] {
    let mut starts = [0; FIRST_BYTES + 1];
    let mut group = 0;
    while group < GROUPS.len() {
        let (text, mut place) = (GROUPS[group].as_bytes(), 0);
        while place < text.len() {
            if !text[place].is_ascii_whitespace() {
                let first = text[place] as usize;
                while !text[place].is_ascii_whitespace() {
                    starts[first + 1] += 1;
                    place += 1;
                }
                starts[first + 1] += 1;
            }
            place += 1;
        }
        group += 1;
    }
    let mut first = 0;
    while first < FIRST_BYTES {
        starts[first + 1] += starts[first];
        first += 1;
    }
    starts
}

const GROUPS: [&str; 6] = [START, MACHINE, LOGIN, SERVICES, PACKAGES, CONTAINERS];

/// What starts and stops the system and supervises the rest. They run before there is a device, and what they wait for
/// everything waits for. (`systemd-*` has the sandboxed ones: journald, logind, resolved, udevd, executor.)
const START: &str = "
    init systemd systemd-* kthreadd systemctl journalctl loginctl telinit runlevel shutdown halt poweroff
    reboot openrc* rc runit* runsv* s6-* dinit upstart* start-stop-daemon invoke-rc.d plymouth*
    switch_root pivot_root sulogin
";

/// What makes devices and file systems appear: it runs while the driver itself is being loaded, and in the initramfs.
const MACHINE: &str = "
    udevd udevadm kmod modprobe insmod rmmod depmod lsmod modinfo mount mount.* umount umount.* fsck* e2fsck
    xfs_repair fsadm blkid swapon swapoff cryptsetup lvm lvm2* dmsetup dmeventd mdadm mdmon multipath*
    growpart resize2fs hwclock loadkeys setfont sysctl dracut* cloud-init*
";

/// Who may come in, and with which rights: sshd's and others' sandboxes kill, and a failure locks people out. (The
/// set-uid ones are left alone by AT_SECURE already; root runs them without it.)
const LOGIN: &str = "
    sshd* login agetty getty mingetty su sudo* su-to-root runuser doas pkexec polkitd polkit-* pkttyagent
    passwd chpasswd chsh chfn chage newgrp sg gpasswd newuidmap newgidmap unix_chkpwd unix_update
    pam_* sssd* sss_* nscd nslcd winbindd oddjobd useradd userdel usermod groupadd groupdel groupmod adduser
    deluser vipw visudo gdm* lightdm* sddm* xdm fail2ban* dropbear* google_*
";

/// What the rest of the system talks to: the message bus, time, the network, logs, scheduled work, the hypervisor's
/// agent. Many are sandboxed, all are started before anybody could have asked for a GPU.
const SERVICES: &str = "
    dbus-daemon dbus-broker* dbus-launch rsyslogd syslogd klogd syslog-ng auditd auditctl augenrules cron
    crond anacron atd run-parts chronyd ntpd ntpdate NetworkManager nm-* wpa_supplicant iwd dhclient*
    dhcpcd* udhcpc networkd-* ifup ifdown ifquery ip iptables* ip6tables* nft firewalld ufw avahi-daemon
    ModemManager bluetoothd irqbalance acpid qemu-ga rngd haveged thermald upowerd udisksd accounts-daemon
    smartd logrotate
";

/// Who changes the system's files, this library's included: they run maintainers' scripts that read what their
/// children print, and copy libraries into the initramfs.
const PACKAGES: &str = "
    dpkg* apt* deb-systemd-* debconf* dh_* unattended-upgrade* update-* rpm* dnf* yum*
    microdnf packagekitd zypper pacman* apk snap* flatpak* dkms* mkinitramfs* mkinitcpio* mkinitrd*
    lsinitramfs unmkinitramfs initramfs-* grub-* grub2-* bootctl kernel-install installkernel run-init
    ldconfig* ldd ld.so* ld-linux* vcompute-guest
";

/// What makes containers: between two worlds, of which one has no library, and under filters of its own making.
const CONTAINERS: &str = "
    runc* crun youki conmon* containerd* dockerd docker-init docker-proxy tini* dumb-init catatonit bwrap
    firejail nsenter unshare chroot kubelet cri-o lxc-*
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_programs_are_left_alone() {
        for path in [
            "init",
            "systemd",
            "systemd-journald",
            "systemd-udevd",
            "systemd-executor",
            "kthreadd",
            "sshd",
            "sshd-session",
            "sshd-auth",
            "dbus-daemon",
            "dbus-broker-launch",
            "udevd",
            "login",
            "agetty",
            "su",
            "sudo",
            "passwd",
            "chsh",
            "cron",
            "crond",
            "polkitd",
            "dpkg",
            "dpkg-deb",
            "apt",
            "apt-get",
            "rpm",
            "dnf",
            "yum",
            "pacman",
            "update-initramfs",
            "mkinitramfs",
            "ldconfig",
            "ldconfig.real",
            "ld.so",
            "ld-linux-x86-64.so.2",
            "modprobe",
            "kmod",
            "mount",
            "unattended-upgrade-shutdown",
            "start-stop-daemon",
        ] {
            assert!(touched(path.get(..15).unwrap_or(path).as_bytes()), "{path}");
        }
    }

    #[test]
    fn applications_are_not() {
        for name in [
            "python3",
            "ollama",
            "bash",
            "sh",
            "true",
            "system",
            "systemde",
            "initial",
            "suspect",
            "mounter",
            "appt",
            "node",
            "java",
            "perl",
            "cat",
            "vcompute-probe",
            "nvidia-smi",
            "ssh",
            "ssh-agent",
            "cron2",
        ] {
            assert!(!touched(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn every_word_is_found_by_its_first_byte() {
        let words = || GROUPS.iter().flat_map(|group| group.split_ascii_whitespace());
        assert!(words().all(|word| touched(word.trim_end_matches('*').as_bytes())));
        let mut sorted: Vec<&str> =
            str::from_utf8(&SORTED.words).expect("text").split_ascii_whitespace().collect();
        let mut listed: Vec<&str> = words().collect();
        sorted.sort_unstable();
        listed.sort_unstable();
        assert_eq!(sorted, listed);
        assert!(!touched(b"") && !touched(&[0xff]) && !touched(b"~") && !touched(b" "));
    }

    #[test]
    fn names_are_well_formed_and_fit_nobody_twice() {
        let all: Vec<&str> = GROUPS.iter().flat_map(|group| group.split_ascii_whitespace()).collect();
        for (place, listed) in all.iter().enumerate() {
            assert!(!listed.is_empty() && !listed.trim_end_matches('*').contains('*'), "{listed}");
            for (other, wider) in all.iter().enumerate() {
                let covered =
                    place != other && matches(wider.as_bytes(), listed.trim_end_matches('*').as_bytes());
                assert!(!(covered && wider.ends_with('*')), "{listed} is covered by {wider}");
            }
        }
    }
}
