//! `vcompute-guest` on a small system in a directory.

mod tree;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use tree::{Behaviour, LIBRARIES, LINE, Tree, differences, words};

const ENGINE: &str = "usr/lib/x86_64-linux-gnu/virtio-compute/libvcompute.so";

/// After `uninstall` everything is as it was.
fn expect_no_trace(tree: &Tree, before: &std::collections::BTreeMap<String, String>) {
    tree.succeed(&["uninstall", "--yes"]);
    assert_eq!(differences(before, &tree.snapshot()), Vec::<String>::new());
}

#[test]
fn everything_is_installed_twice_and_leaves_no_trace() {
    let tree = Tree::new();
    let before = tree.snapshot();

    tree.install();

    assert_eq!(tree.text("etc/ld.so.preload"), format!("{LINE}\n"));
    assert_eq!(fs::metadata(tree.path("etc/ld.so.preload")).expect("it is there").mode() & 0o777, 0o644);
    for name in ["libcuda.so", "libcuda.so.1", "virtio-compute/preload.so"] {
        let file = fs::canonicalize(tree.path(LIBRARIES).join(name)).expect("it leads somewhere");
        assert_eq!(
            file,
            fs::canonicalize(tree.path(LIBRARIES).join("libcuda.so.0.1.0")).expect("the library")
        );
    }
    assert!(tree.path(ENGINE).is_file());
    assert!(tree.path("usr/lib/i386-linux-gnu/virtio-compute/preload.so").is_file());
    let policy = fs::read_link(tree.path("etc/virtio-compute/shim.policy")).expect("a link");
    assert!(policy.to_string_lossy().starts_with("vcompute-shim-1"), "{}", policy.display());
    let installed = tree.snapshot();
    tree.install();
    assert_eq!(differences(&installed, &tree.snapshot()), Vec::<String>::new());
    tree.succeed(&["doctor"]);
    expect_no_trace(&tree, &before);
}

#[test]
fn nothing_happens_without_consent() {
    let tree = Tree::new();
    let before = tree.snapshot();

    let complaint = tree.fail(&["install", "--no-driver"]);

    assert!(complaint.contains("--yes"), "{complaint}");
    assert_eq!(differences(&before, &tree.snapshot()), Vec::<String>::new());
    tree.install();
    assert!(tree.fail(&["uninstall"]).contains("--yes"));
    assert!(tree.text("etc/ld.so.preload").contains(LINE));
}

#[test]
fn what_others_preload_stays_as_it_is() {
    for (text, mode) in [("# by hand\n/usr/lib/other.so\n", 0o640), ("/usr/lib/other.so", 0o600), ("", 0o644)]
    {
        let tree = Tree::new();
        tree.compile(&tree.path("usr/lib/other.so"), Behaviour::Harmless, "another");
        tree.write("etc/ld.so.preload", text, mode);
        let before = tree.snapshot();

        tree.install();

        let list = tree.text("etc/ld.so.preload");
        assert!(list.starts_with(text) && list.trim_end().ends_with(LINE), "{list:?}");
        let about = fs::metadata(tree.path("etc/ld.so.preload")).expect("it is there");
        assert_eq!(about.mode() & 0o777, mode);
        expect_no_trace(&tree, &before);
    }
}

#[test]
fn a_library_that_harms_programs_is_refused() {
    for behaviour in [Behaviour::Exits, Behaviour::Crashes, Behaviour::Complains] {
        let tree = Tree::new();
        tree.offer(behaviour);
        let before = tree.snapshot();

        let complaint = tree.fail(&["install", "--yes", "--no-driver"]);

        assert!(complaint.contains("nothing was installed"), "{behaviour:?}: {complaint}");
        assert_eq!(differences(&before, &tree.snapshot()), Vec::<String>::new(), "{behaviour:?}");
    }
}

#[test]
fn a_library_that_is_loaded_later_is_tried_as_well() {
    for behaviour in [Behaviour::Exits, Behaviour::Crashes, Behaviour::Complains] {
        let tree = Tree::new();
        tree.offer_both(Behaviour::Harmless, behaviour);
        let before = tree.snapshot();

        let complaint = tree.fail(&["install", "--yes", "--no-driver"]);

        assert!(complaint.contains("nothing was installed"), "{behaviour:?}: {complaint}");
        assert_eq!(differences(&before, &tree.snapshot()), Vec::<String>::new(), "{behaviour:?}");
    }
}

#[test]
fn a_library_that_loads_another_is_not_installed_without_it() {
    let tree = Tree::new();
    let engine = tree.payload.join("libvcompute.so");
    let whole = fs::read(&engine).expect("the library");
    let before = tree.snapshot();

    fs::write(&engine, whole.get(..whole.len() / 2).expect("a half")).expect("it can be written");
    assert!(tree.fail(&["install", "--yes", "--no-driver"]).contains("cut off"));
    fs::remove_file(&engine).expect("it was there");
    assert!(tree.fail(&["install", "--yes", "--no-driver"]).contains("there is no libvcompute.so"));

    assert_eq!(differences(&before, &tree.snapshot()), Vec::<String>::new());
}

#[test]
fn one_library_becomes_two_and_two_become_one() {
    let tree = Tree::new();
    let before = tree.snapshot();
    tree.offer(Behaviour::Harmless);
    tree.install();
    assert!(!tree.path(ENGINE).exists());

    tree.offer_both(Behaviour::Harmless, Behaviour::Harmless);
    tree.install();
    tree.succeed(&["doctor"]);
    assert!(tree.path(ENGINE).exists());

    tree.offer(Behaviour::Harmless);
    tree.install();
    assert!(!tree.path(ENGINE).exists());
    expect_no_trace(&tree, &before);
}

#[test]
fn each_half_of_the_library_is_looked_at() {
    let tree = Tree::new();
    tree.install();
    let library = format!("{LIBRARIES}/libcuda.so.0.1.0");
    let judged = || {
        let output = tree.run(&["doctor"]);
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    for (file, about) in [(library.as_str(), "library"), (ENGINE, "engine")] {
        let whole = fs::read(tree.path(file)).expect("it was installed");
        let found = |part: &str, is_good: bool| {
            let (good, said) = judged();
            let line = said.lines().find(|line| line.contains(about) && line.contains(part));
            assert!(line.is_some() && good == is_good, "{file}, {part}: {said}");
        };

        fs::write(tree.path(file), [&whole[..], b"x"].concat()).expect("it can be written");
        found("another version, or damaged", true);
        fs::write(tree.path(file), whole.get(..whole.len() / 2).expect("a half")).expect("it can be written");
        found("cut off", false);
        fs::write(tree.path(file), &whole).expect("it can be written");
        fs::set_permissions(tree.path(file), fs::Permissions::from_mode(0o600)).expect("a mode");
        found("mode 0600", false);
        fs::remove_file(tree.path(file)).expect("it was there");
        found("No such file", false);
        tree.install();
        tree.succeed(&["doctor"]);
    }
}

#[test]
fn a_line_of_others_that_leads_nowhere_is_told() {
    let tree = Tree::new();
    tree.install();
    let text = tree.text("etc/ld.so.preload");
    tree.write("etc/ld.so.preload", &format!("/usr/lib/nothing.so\n{text}"), 0o644);

    let said = tree.succeed(&["doctor"]);

    assert!(said.contains("doubtful") && said.contains("/usr/lib/nothing.so"), "{said}");
}

#[test]
fn a_library_that_harms_an_upgrade_leaves_the_old_one() {
    let tree = Tree::new();
    tree.install();
    let before = tree.snapshot();
    tree.offer(Behaviour::Crashes);

    tree.fail(&["install", "--yes", "--no-driver"]);

    assert_eq!(differences(&before, &tree.snapshot()), Vec::<String>::new());
}

#[test]
fn the_line_is_taken_back_when_a_fresh_process_fails() {
    let tree = Tree::new();
    tree.offer(Behaviour::CrashesLater);
    let before = tree.snapshot();

    let complaint = tree.fail(&["install", "--yes", "--no-driver"]);

    assert!(complaint.contains("taken out again"), "{complaint}");
    assert!(!tree.path("etc/ld.so.preload").exists());
    expect_no_trace(&tree, &before);
}

#[test]
fn an_upgrade_that_passes_the_trial_and_fails_later_loses_the_line() {
    let tree = Tree::new();
    tree.write("etc/ld.so.preload", "# mine\n", 0o644);
    tree.install();
    tree.offer(Behaviour::CrashesLater);

    tree.fail(&["install", "--yes", "--no-driver"]);

    assert_eq!(tree.text("etc/ld.so.preload"), "# mine\n");
}

#[test]
fn what_is_no_whole_library_of_ours_is_refused() {
    let tree = Tree::new();
    let before = tree.snapshot();
    let file = tree.payload.join("libcuda.so.1");
    let whole = fs::read(&file).expect("the library");
    let half = whole.get(..whole.len() / 2).expect("a half").to_vec();
    for (contents, part) in [(b"no ELF".to_vec(), "no ELF file"), (half, "cut off")] {
        fs::write(&file, contents).expect("it can be written");
        let complaint = tree.fail(&["install", "--yes", "--no-driver"]);
        assert!(complaint.contains(part), "{complaint}");
    }
    tree.compile(&file, Behaviour::Harmless, "another vendor's");
    assert!(tree.fail(&["install", "--yes", "--no-driver"]).contains("another vendor"));
    assert_eq!(differences(&before, &tree.snapshot()), Vec::<String>::new());
}

#[test]
fn another_vendors_library_makes_way_only_when_told_and_comes_back() {
    let tree = Tree::new();
    tree.compile(&tree.path(LIBRARIES).join("libcuda.so.580.65.06"), Behaviour::Harmless, "another");
    symlink("libcuda.so.580.65.06", tree.path(LIBRARIES).join("libcuda.so.1")).expect("a link");
    symlink("libcuda.so.1", tree.path(LIBRARIES).join("libcuda.so")).expect("a link");
    let before = tree.snapshot();

    let complaint = tree.fail(&["install", "--yes", "--no-driver"]);
    assert!(
        complaint.contains("libcuda.so.580.65.06") && complaint.contains("--replace-other-libcuda"),
        "{complaint}"
    );
    assert_eq!(differences(&before, &tree.snapshot()), Vec::<String>::new());

    tree.succeed(&["install", "--yes", "--no-driver", "--replace-other-libcuda"]);
    let link = fs::read_link(tree.path(LIBRARIES).join("libcuda.so.1")).expect("a link");
    assert_eq!(link.to_string_lossy(), "libcuda.so.0.1.0");
    tree.install();
    tree.succeed(&["doctor"]);
    expect_no_trace(&tree, &before);
}

#[test]
fn management_is_installed_beside_and_leaves_no_trace() {
    let tree = Tree::new();
    let before = tree.snapshot();

    tree.install();

    for name in ["libnvidia-ml.so", "libnvidia-ml.so.1"] {
        let link = fs::read_link(tree.path(LIBRARIES).join(name)).expect("a link");
        assert_eq!(link.to_string_lossy(), "libnvidia-ml.so.0.1.0");
    }
    let link = fs::read_link(tree.path("usr/bin/nvidia-smi")).expect("a link");
    assert_eq!(link.to_string_lossy(), "vcompute-smi");
    assert_eq!(fs::metadata(tree.path("usr/bin/vcompute-smi")).expect("it is there").mode() & 0o777, 0o755);
    assert!(tree.succeed(&["doctor"]).contains("libnvidia-ml.so.1"));
    expect_no_trace(&tree, &before);
}

#[test]
fn another_vendors_management_stays_unless_told_otherwise() {
    let tree = Tree::new();
    tree.write("usr/sbin/nvidia-smi", "#!/bin/sh\n", 0o755);
    tree.compile_management(&tree.path(LIBRARIES).join("libnvidia-ml.so.580.65.06"));
    symlink("libnvidia-ml.so.580.65.06", tree.path(LIBRARIES).join("libnvidia-ml.so.1")).expect("a link");
    let before = tree.snapshot();

    let complaint = tree.fail(&["install", "--yes", "--no-driver"]);
    assert!(complaint.contains("libnvidia-ml.so.580.65.06"), "{complaint}");
    assert_eq!(differences(&before, &tree.snapshot()), Vec::<String>::new());

    tree.succeed(&["install", "--yes", "--no-driver", "--replace-other-libcuda"]);
    assert!(!tree.path("usr/bin/nvidia-smi").exists());
    assert_eq!(tree.text("usr/sbin/nvidia-smi"), "#!/bin/sh\n");
    expect_no_trace(&tree, &before);
}

#[test]
fn an_nvidia_smi_that_came_later_is_left_alone() {
    let tree = Tree::new();
    tree.install();
    fs::remove_file(tree.path("usr/bin/nvidia-smi")).expect("it was there");
    tree.write("usr/bin/nvidia-smi", "#!/bin/sh\n", 0o755);

    tree.install();
    tree.succeed(&["uninstall", "--yes"]);

    assert_eq!(tree.text("usr/bin/nvidia-smi"), "#!/bin/sh\n");
    assert!(!tree.path("usr/bin/vcompute-smi").exists());
}

#[test]
fn what_another_vendor_installed_later_is_left_alone() {
    let tree = Tree::new();
    tree.install();
    let theirs = tree.path(LIBRARIES).join("libcuda.so.600.1");
    tree.compile(&theirs, Behaviour::Harmless, "another");
    fs::remove_file(tree.path(LIBRARIES).join("libcuda.so.1")).expect("it was there");
    symlink("libcuda.so.600.1", tree.path(LIBRARIES).join("libcuda.so.1")).expect("a link");

    assert!(!tree.run(&["doctor"]).status.success());
    tree.succeed(&["uninstall", "--yes"]);

    assert!(theirs.exists() && tree.path(LIBRARIES).join("libcuda.so.1").exists());
}

#[test]
fn without_the_preload_the_library_is_found_and_the_line_goes() {
    let tree = Tree::new();
    let before = tree.snapshot();
    tree.install();

    tree.succeed(&["install", "--yes", "--no-driver", "--no-preload"]);

    assert!(!tree.path("etc/ld.so.preload").exists());
    assert!(tree.path(LIBRARIES).join("libcuda.so.1").exists());
    expect_no_trace(&tree, &before);
}

#[test]
fn the_installed_program_can_switch_the_preload_on_by_itself() {
    let tree = Tree::new();
    tree.succeed(&["install", "--yes", "--no-driver", "--no-preload"]);
    let elsewhere = tree.path("usr/sbin");

    let output = tree::run(&tree.top, &elsewhere, &["install", "--yes", "--no-driver"]);

    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(tree.text("etc/ld.so.preload").contains(LINE));
}

#[test]
fn a_system_whose_library_is_gone_or_damaged_is_told_and_mended() {
    let library = format!("{LIBRARIES}/libcuda.so.0.1.0");
    for damage in [None, Some("not a library")] {
        let tree = Tree::new();
        tree.install();
        match damage {
            None => fs::remove_file(tree.path(&library)).expect("it was there"),
            Some(text) => fs::write(tree.path(&library), text).expect("it can be written"),
        }

        let judged = tree.run(&["doctor"]);
        let said = String::from_utf8_lossy(&judged.stdout).into_owned();
        assert!(!judged.status.success() && said.contains("BROKEN"), "{said}");
        tree.install();
        tree.succeed(&["doctor"]);
    }
}

#[test]
fn the_line_of_a_damaged_library_goes_when_asked_and_that_of_a_sound_one_stays() {
    let library = format!("{LIBRARIES}/libcuda.so.0.1.0");
    let tree = Tree::new();
    tree.install();
    tree.succeed(&["rescue", "--if-broken"]);
    assert!(tree.text("etc/ld.so.preload").contains(LINE));
    let whole = fs::read(tree.path(&library)).expect("it was installed");

    for damage in [None, Some(whole.len() / 2), Some(0)] {
        match damage {
            None => fs::remove_file(tree.path(&library)).expect("it was there"),
            Some(end) => fs::write(tree.path(&library), whole.get(..end).expect("a part")).expect("a file"),
        }
        tree.succeed(&["rescue", "--if-broken"]);
        assert!(!tree.path("etc/ld.so.preload").exists(), "cut at {damage:?}");
        tree.install();
    }
    // A whole file with which no program starts.
    tree.compile(&tree.path(&library), Behaviour::Crashes, "/dev/vcompute0");
    tree.succeed(&["rescue", "--if-broken"]);
    assert!(!tree.path("etc/ld.so.preload").exists());
}

#[test]
fn rescue_needs_nothing_but_the_list() {
    let tree = Tree::new();
    tree.install();
    tree.write("var/lib/virtio-compute/installed.toml", "damaged [", 0o600);
    tree.write("etc/ld.so.preload", &format!("/a.so:{LINE}\n"), 0o644);
    for program in ["sh", "true", "ls", "cat", "env"] {
        fs::remove_file(tree.path("usr/bin").join(program)).expect("it was there");
    }

    tree.succeed(&["rescue"]);

    assert_eq!(tree.text("etc/ld.so.preload"), "/a.so\n");
    tree.succeed(&["rescue"]);
}

#[test]
fn the_policy_follows_the_file_when_told() {
    let tree = Tree::new();
    tree.install();
    tree.write("etc/virtio-compute/shim.toml", "mode = \"listed\"\nalways = [\"ollama\"]\n", 0o644);

    let told = tree.succeed(&["doctor", "--json"]);
    assert!(told.contains("doubtful") && told.contains("mode=listed"), "{told}");
    tree.succeed(&["apply"]);

    let policy = fs::read_link(tree.path("etc/virtio-compute/shim.policy")).expect("a link");
    assert_eq!(policy.to_string_lossy(), "vcompute-shim-1 mode=listed always=ollama");
    tree.write("etc/virtio-compute/shim.toml", "mode = \"sometimes\"\n", 0o644);
    assert!(tree.fail(&["apply"]).contains("sometimes"));
    assert_eq!(fs::read_link(tree.path("etc/virtio-compute/shim.policy")).expect("a link"), policy);
}

#[test]
fn a_policy_of_the_users_own_is_kept() {
    let tree = Tree::new();
    tree.install();
    tree.write("etc/virtio-compute/shim.toml", "mode = \"off\"\n", 0o644);

    tree.install();
    tree.succeed(&["uninstall", "--yes", "--keep-config"]);

    assert_eq!(tree.text("etc/virtio-compute/shim.toml"), "mode = \"off\"\n");
    assert!(fs::symlink_metadata(tree.path("etc/virtio-compute/shim.policy")).is_err());
}

#[test]
fn a_module_goes_to_its_kernel() {
    let tree = Tree::new();
    let module = tree.payload.join("vcompute.ko");
    fs::write(&module, b"\x7fELF\0vermagic=6.12.0-test SMP \0").expect("a file");
    let command = format!("install --yes --module {}", module.display());

    assert!(tree.fail(&words(&command)).contains("6.12.0-test"));
    fs::create_dir_all(tree.path("usr/lib/modules/6.12.0-test")).expect("a directory");
    let before = tree.snapshot();
    tree.succeed(&words(&command));

    assert!(tree.path("usr/lib/modules/6.12.0-test/updates/vcompute.ko").is_file());
    assert_eq!(tree.text("etc/modules-load.d/virtio-compute.conf"), "vcompute\n");
    assert!(tree.text("etc/udev/rules.d/70-virtio-compute.rules").contains("render"));
    expect_no_trace(&tree, &before);
}

#[test]
fn what_is_missing_for_the_driver_is_said_before_anything_is_done() {
    let tree = Tree::new();
    let before = tree.snapshot();

    let complaint = tree.fail(&["install", "--yes"]);

    assert!(complaint.contains("apt install dkms") && complaint.contains("linux-headers"), "{complaint}");
    assert_eq!(differences(&before, &tree.snapshot()), Vec::<String>::new());
}

/// A DKMS that only writes down what it is told.
const DKMS: &str = r#"#!/bin/sh
echo "$@" >>/tmp/dkms.log
case "$1" in
install) test ! -e /tmp/dkms.fails || exit 1; test -f /usr/src/virtio-compute-0.1.0/main.c ;;
status) test ! -e /tmp/dkms.installed || echo "virtio-compute/0.1.0, 6.12.0-test, x86_64: installed" ;;
esac
"#;

#[test]
fn dkms_builds_once_for_every_kernel_with_headers() {
    let tree = Tree::new();
    tree.write("usr/sbin/dkms", DKMS, 0o755);
    tree.write("usr/lib/modules/6.12.0-test/build/Makefile", "\n", 0o644);
    fs::create_dir_all(tree.path("usr/lib/modules/6.1.0-bare")).expect("a directory");
    let before = tree.snapshot();
    fs::write(tree.path("tmp/dkms.fails"), "").expect("a file");
    let complaint = tree.fail(&["install", "--yes"]);
    assert!(complaint.contains("dkms install"), "{complaint}");
    assert!(!tree.path("etc/ld.so.preload").exists(), "the preload comes after the driver");
    fs::remove_file(tree.path("tmp/dkms.fails")).expect("it was there");

    tree.succeed(&["install", "--yes"]);
    fs::write(tree.path("tmp/dkms.installed"), "").expect("a file");
    tree.succeed(&["install", "--yes"]);

    let log = tree.text("tmp/dkms.log");
    let installs: Vec<_> = log.lines().filter(|line| line.starts_with("install")).collect();
    assert_eq!(installs, ["install virtio-compute/0.1.0 -k 6.12.0-test"; 2], "one of them was told to fail");
    for file in ["tmp/dkms.log", "tmp/dkms.installed"] {
        fs::remove_file(tree.path(file)).expect("it was there");
    }
    expect_no_trace(&tree, &before);
}

/// Wherever an installation is cut short, it can be undone, and can be begun again.
#[test]
fn an_installation_that_is_killed_can_be_undone() {
    let mut cut = 0;
    for moment in (1..240).step_by(13) {
        let tree = Tree::new();
        tree.write("etc/ld.so.preload", "# mine\n", 0o644);
        let before = tree.snapshot();

        cut += usize::from(
            tree.kill_after(std::time::Duration::from_millis(moment), &["install", "--yes", "--no-driver"]),
        );

        if moment % 2 == 0 {
            tree.install();
        }
        tree.succeed(&["uninstall", "--yes"]);
        assert_eq!(differences(&before, &tree.snapshot()), Vec::<String>::new(), "killed after {moment} ms");
    }
    assert!(cut > 0, "every installation was faster than its end");
}

#[test]
fn links_do_not_lead_out_of_the_tree() {
    let tree = Tree::new();
    let outside = tree.payload.join("outside");
    fs::create_dir(&outside).expect("a directory");
    fs::remove_dir_all(tree.path("var")).expect("it is there");
    symlink(&outside, tree.path("var")).expect("a link");

    let complaint = tree.fail(&["install", "--yes", "--no-driver"]);

    assert!(complaint.contains("outside of"), "{complaint}");
    assert_eq!(fs::read_dir(&outside).expect("a directory").count(), 0);
}

#[test]
fn directories_can_be_entered_whatever_the_umask_was() {
    let tree = Tree::new();
    let script = "umask 077; exec \"$0\" \"$@\"";
    tree.run(&["status"]);
    let output = std::process::Command::new("sh")
        .args(["-c", script])
        .arg(tree.payload.join("vcompute-guest"))
        .args(["install", "--yes", "--no-driver", "--root"])
        .arg(&tree.top)
        .output()
        .expect("it starts");
    if !output.status.success() {
        eprintln!("skipped: this needs root");
        return;
    }

    for inside in ["usr/lib/i386-linux-gnu", "etc/virtio-compute", "usr/libexec"] {
        let Ok(about) = fs::metadata(tree.path(inside)) else { continue };
        assert_eq!(about.permissions().mode() & 0o777, 0o755, "{inside}");
    }
}
