//! Any bytes are read without harm, and what is written is read as it was.

use shim_policy::{
    Level, MAX_BYTES, MAX_DEADLINE_MS, Malformed, Mode, NAME_BYTES, Names, Policy, Target, VERSION, matches,
};

/// Numbers that look random and are the same each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).expect("it is below a usize")
    }

    fn one_of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len())]
    }

    fn name(&mut self) -> String {
        let length = 1 + self.below(NAME_BYTES);
        let mut name: String =
            (0..length).map(|_| char::from(self.one_of(b"abcxyzABCXYZ019-_.+@()[]:=/\\\"'~"))).collect();
        if self.below(4) == 0 {
            name.push('*');
        }
        name
    }

    fn names(&mut self) -> String {
        let count = self.below(6);
        (0..count).map(|_| self.name()).collect::<Vec<_>>().join(",")
    }
}

fn names(text: &str) -> Names<'_> {
    if text.is_empty() { Names::default() } else { Names::parse(text.as_bytes()).expect("a list") }
}

#[test]
fn what_is_written_is_read_as_it_was() {
    let mut random = Random(0x5eed);
    for _ in 0..20_000 {
        let (never, always) = (random.names(), random.names());
        let path = format!("/{}", random.name());
        let deadline = 1 + random.below(usize::from(MAX_DEADLINE_MS));
        let policy = Policy {
            mode: random.one_of(Mode::ALL),
            deadline_ms: u16::try_from(deadline).expect("it is small"),
            level: random.one_of(Level::ALL),
            target: random.one_of(&[Target::Stderr, Target::Syslog, Target::File(&path)]),
            never: names(&never),
            always: names(&always),
            unknown: 0,
        };
        let text = policy.to_string();
        assert_eq!(Policy::parse(text.as_bytes()), Ok(policy), "{text}");

        let longer = format!("{text} flavour=new word");
        let read = Policy::parse(longer.as_bytes()).expect("a newer policy");
        assert_eq!(read, Policy { unknown: 2, ..policy }, "{longer}");
    }
}

#[test]
fn any_bytes_are_read_without_harm() {
    let mut random = Random(0xfeed);
    let words = [
        "vcompute-shim-1",
        "mode=all",
        "mode=",
        "mode",
        "deadline=7",
        "deadline=-1",
        "level=warn",
        "target=file:/x",
        "target=file:",
        "never=a*,b",
        "never=*",
        "never=,",
        "always=x",
        "=",
        "",
        "x=y",
        "\u{e9}",
        "\0",
        "\n",
    ];
    let mut accepted = 0;
    for round in 0..50_000 {
        let mut bytes: Vec<u8> = if round % 2 == 0 {
            (0..random.below(80)).flat_map(|_| random.next().to_le_bytes()).collect()
        } else {
            let count = random.below(8);
            let mut text = vec![VERSION];
            text.extend((0..count).map(|_| random.one_of(&words)));
            text.join(" ").into_bytes()
        };
        if round % 5 == 0 && !bytes.is_empty() {
            let place = random.below(bytes.len());
            bytes[place] ^= 1 << random.below(8);
        }
        if let Ok(policy) = Policy::parse(&bytes) {
            accepted += 1;
            assert!((1..=MAX_DEADLINE_MS).contains(&policy.deadline_ms));
            let again = policy.to_string();
            let read = Policy::parse(again.as_bytes()).expect("what is written can be read");
            assert_eq!(Policy { unknown: policy.unknown, ..read }, policy, "{again}");
        }
        let _answers =
            (policy_wants(&bytes), matches(&bytes, &bytes), Names::parse(&bytes), Target::parse(&bytes));
    }
    assert!(accepted > 1000, "{accepted} texts were policies");
}

fn policy_wants(name: &[u8]) -> bool {
    Policy { never: names("a*"), ..Policy::default() }.wants(name)
}

#[test]
fn mistakes_are_refused() {
    let long = format!("{VERSION} never={}", ["x"; 600].join(","));
    let texts = [
        "",
        "vcompute-shim-2",
        " vcompute-shim-1",
        "vcompute-shim-1 ",
        "vcompute-shim-1  mode=all",
        "vcompute-shim-1\nmode=all",
        "vcompute-shim-1 mode=ALL",
        "vcompute-shim-1 mode=all mode=all",
        "vcompute-shim-1 deadline=0",
        "vcompute-shim-1 deadline=1001",
        "vcompute-shim-1 deadline=+5",
        "vcompute-shim-1 deadline=99999",
        "vcompute-shim-1 deadline",
        "vcompute-shim-1 level=loud",
        "vcompute-shim-1 target=file:relative",
        "vcompute-shim-1 target=/x",
        "vcompute-shim-1 never=",
        "vcompute-shim-1 never=a,,b",
        "vcompute-shim-1 never=a*b",
        "vcompute-shim-1 never=sixteen-byte-nam",
        "vcompute-shim-1 never=a\u{e9}",
        &long,
    ];
    for text in texts {
        assert_eq!(Policy::parse(text.as_bytes()), Err(Malformed), "{text:?}");
    }
    assert_eq!(Policy::parse(VERSION.as_bytes()), Ok(Policy::default()));
    assert!(long.len() > MAX_BYTES);
}

#[test]
fn names_are_compared_by_their_first_bytes() {
    for (listed, name, fits) in [
        ("cron", "cron", true),
        ("cron", "crond", false),
        ("cron*", "crond", true),
        ("cron*", "cro", false),
        ("*", "anything", true),
        ("systemd-journald", "systemd-journal", true),
        ("systemd-journal", "systemd-journald", true),
        ("unattended-upgrade*", "unattended-upgr", true),
        ("a", "", false),
    ] {
        assert_eq!(matches(listed.as_bytes(), name.as_bytes()), fits, "{listed} {name}");
    }
    assert!(!Names::default().contain(b""), "an empty list has no names");
}

#[test]
fn always_goes_before_never() {
    let text = b"vcompute-shim-1 never=my* always=mycuda";
    let policy = Policy::parse(text).expect("a policy");
    assert!(policy.wants(b"mycuda") && policy.wants(b"other") && !policy.wants(b"mydaemon"));
    let listed = Policy { mode: Mode::Listed, ..policy };
    assert!(listed.wants(b"mycuda") && !listed.wants(b"other"));
    assert!(!Policy { mode: Mode::Off, ..policy }.wants(b"mycuda"));
}
