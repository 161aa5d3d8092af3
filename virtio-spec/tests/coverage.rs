//! `docs/call-coverage.md` is made of the call table; this keeps it up to date.

use std::{fmt::Write as _, fs, path::PathBuf};

use virtio_spec::calls::{self, Disposition, GROUPS};

fn word(disposition: Disposition) -> &'static str {
    match disposition {
        Disposition::Wire => "generated",
        Disposition::Guest => "answered in the guest",
        Disposition::Custom => "by hand",
        Disposition::Unsupported => "not supported yet",
    }
}

fn page() -> String {
    let mut page = String::from(
        "# Call coverage\n\n\
         Made of the call table (`virtio-spec/src/calls/`) by `virtio-spec/tests/coverage.rs`; do not edit.\n\n",
    );
    let supported = calls::all().filter(|call| call.disposition != Disposition::Unsupported).count();
    writeln!(page, "{supported} of {} functions are supported.\n", calls::all().count()).unwrap();
    page.push_str(
        "What is not supported is of three kinds: forms without a version where there is a `_v2` since CUDA 3.2 or 4.0 \
         (`cuMemAlloc`, `cuDeviceTotalMem`), which every later header names instead, so that no program built for CUDA \
         11.8 or later calls them; what a guest has not (graphics, memory of other APIs, other nodes, multicast, green \
         contexts, prefetching of managed memory in batches); and what no program that is known calls.\n\n",
    );
    page.push_str("| group | functions | supported |\n|---|---|---|\n");
    for rows in GROUPS {
        let group = rows[0].group;
        let supported = rows.iter().filter(|call| call.disposition != Disposition::Unsupported).count();
        writeln!(page, "| `{group}` | {} | {supported} |", rows.len()).unwrap();
    }
    for rows in GROUPS {
        writeln!(
            page,
            "
## {}

| opcode | function | from CUDA | how |
|---|---|---|---|",
            rows[0].group
        )
        .unwrap();
        for call in *rows {
            let since = match call.since {
                0 => "–".to_owned(),
                version => format!("{}.{}", version / 1000, version % 1000 / 10),
            };
            let posted = if call.posted { ", posted" } else { "" };
            let how = word(call.disposition);
            writeln!(page, "| {:#06x} | `{}` | {since} | {how}{posted} |", call.opcode, call.name).unwrap();
        }
    }
    page
}

#[test]
fn the_coverage_page_is_up_to_date() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/call-coverage.md");
    let page = page();
    if std::env::var_os("RENEW").is_some() {
        fs::write(&path, &page).expect("docs/ can be written");
    }
    let present = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        present == page,
        "docs/call-coverage.md is stale: RENEW=1 cargo test -p virtio-spec --test coverage"
    );
}
