//! The text of `/etc/ld.so.preload`: entries between white space and colons, comments from `#` to the end of the line.
//!
//! Whatever others have written stays byte for byte.

/// The entries, in their order.
pub(crate) fn entries(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| {
        let code = line.split('#').next().unwrap_or_default();
        code.split([' ', '\t', ':']).filter(|entry| !entry.is_empty())
    })
}

/// The text with `entry` on a line of its own, at the end.
pub(crate) fn with(text: &str, entry: &str) -> String {
    if entries(text).any(|known| known == entry) {
        return text.to_owned();
    }
    if text.is_empty() || text.ends_with('\n') {
        format!("{text}{entry}\n")
    } else {
        // So that taking it away again gives the same text.
        format!("{text}\n{entry}")
    }
}

/// The text without the entries for which `unwanted` says so.
pub(crate) fn without(text: &str, unwanted: impl Fn(&str) -> bool) -> String {
    let mut kept = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let (code, comment) = line.split_at(line.find('#').unwrap_or(line.len()));
        if !entries(code).any(&unwanted) {
            kept.push_str(line);
        } else if entries(code).any(|entry| !unwanted(entry)) || !comment.is_empty() {
            kept.push_str(&strike(code, &unwanted));
            kept.push_str(comment);
        } else if !line.ends_with('\n') && kept.ends_with('\n') {
            kept.pop();
        }
    }
    kept
}

/// A line that holds something else too: only the entry goes, and one separator beside it.
fn strike(code: &str, unwanted: &impl Fn(&str) -> bool) -> String {
    let mut kept = String::new();
    for piece in code.split_inclusive([' ', '\t', ':', '\n']) {
        let entry = piece.trim_end_matches([' ', '\t', ':', '\n']);
        if !entry.is_empty() && unwanted(entry) {
            if piece.ends_with('\n') {
                kept.truncate(kept.trim_end_matches([' ', '\t', ':']).len());
                kept.push('\n');
            }
            continue;
        }
        kept.push_str(piece);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "/usr/$LIB/virtio-compute/preload.so";

    fn is_ours(entry: &str) -> bool {
        entry == OURS
    }

    #[test]
    fn entries_are_what_the_dynamic_linker_takes_for_entries() {
        let text = "# a b\n/a.so /b.so:/c.so\t/d.so # /e.so\n\n/f.so";

        assert_eq!(entries(text).collect::<Vec<_>>(), ["/a.so", "/b.so", "/c.so", "/d.so", "/f.so"]);
    }

    #[test]
    fn adding_and_taking_away_gives_the_same_text() {
        for text in ["", "\n", "/a.so\n", "/a.so", "# note\n/a.so /b.so\n\n", "  /a.so  # x", "#", "\n\n\n"] {
            let with_ours = with(text, OURS);

            assert_eq!(entries(&with_ours).last(), Some(OURS), "{text:?}");
            assert_eq!(with(&with_ours, OURS), with_ours, "{text:?}");
            assert_eq!(without(&with_ours, is_ours), text, "{text:?}");
        }
    }

    #[test]
    fn others_on_the_same_line_stay() {
        assert_eq!(without(&format!("/a.so:{OURS}:/b.so\n"), is_ours), "/a.so:/b.so\n");
        assert_eq!(without(&format!("{OURS} /b.so\n"), is_ours), "/b.so\n");
        assert_eq!(without(&format!("/a.so {OURS}\n/c.so\n"), is_ours), "/a.so\n/c.so\n");
        assert_eq!(without(&format!("/a.so {OURS} # why\n"), is_ours), "/a.so # why\n");
        assert_eq!(without(&format!("{OURS}\n{OURS}\n/b.so\n"), is_ours), "/b.so\n");
        assert_eq!(without(&format!("# {OURS}\n"), is_ours), format!("# {OURS}\n"));
    }
}
