//! What can be wrong with a device.

use clap::ValueEnum;

/// One way to misbehave. All else is as the specification says, except that there is no GPU: nobody serves a session's
/// lanes, unless the fault is about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Fault {
    /// Nothing is wrong; a session's requests are never answered
    None,

    /// The configuration space has another magic number
    ConfigMagic,
    /// The configuration space has version 99
    ConfigVersion,
    /// No sessions, regions and extents are allowed
    ConfigNothingAllowed,
    /// 2^32 - 1 sessions, regions and extents are allowed
    ConfigEverythingAllowed,

    /// HELLO is never answered
    HelloNever,
    /// HELLO's reply ends in its middle
    HelloShort,
    /// HELLO's status is a number that nobody knows
    HelloStatus,
    /// HELLO is answered with "again", for ever
    HelloAgain,
    /// The device is in a state that nobody knows
    HelloState,
    /// The device is starting, for ever
    HelloStarting,
    /// The device says that it has failed
    HelloFailed,
    /// The device information has 2^32 - 1 bytes
    HelloInfoHuge,
    /// The device information has one byte
    HelloInfoTiny,
    /// The device information is never the same twice, and each event says so
    HelloRestless,

    /// DEVICE_INFO is never answered
    InfoNever,
    /// DEVICE_INFO's reply is empty
    InfoEmpty,
    /// DEVICE_INFO's reply says that it is longer than its room
    InfoLong,
    /// DEVICE_INFO is refused
    InfoRefused,
    /// The device information is noise
    InfoGarbage,
    /// The device information names 2^32 - 1 devices, and each field of the first is as large as it can be
    InfoExtreme,

    /// SESSION_CREATE is never answered
    CreateNever,
    /// SESSION_CREATE is answered after two seconds
    CreateLate,
    /// SESSION_CREATE's reply has no session number
    CreateShort,
    /// A new session has number 0
    CreateZero,
    /// Every new session has the same number
    CreateSame,
    /// SESSION_CREATE's status is a number that nobody knows
    CreateStatus,
    /// SESSION_CREATE is refused for want of memory
    CreateRefused,
    /// A session dies as soon as it has been made
    CreateDies,

    /// MAP is never answered
    MapNever,
    /// MAP is refused because the address is taken
    MapRefused,
    /// UNMAP is never answered
    UnmapNever,
    /// UNMAP is refused
    UnmapRefused,
    /// SESSION_DESTROY is never answered
    DestroyNever,
    /// SESSION_DESTROY is refused
    DestroyRefused,
    /// KICK is never answered
    KickNever,
    /// KICK is answered with "no such session"
    KickUnknown,

    /// STATUS is never answered
    StatusNever,
    /// STATUS is answered with "again", for ever
    StatusAgain,
    /// STATUS's reply is noise
    StatusGarbage,
    /// STATUS's reply says that it is longer than its room
    StatusLong,

    /// Every request is given back twice
    UsedTwice,
    /// Requests are given back by a number beyond the queue
    UsedBeyond,
    /// Requests are given back by the number of one that is not under way
    UsedIdle,
    /// A request of before the last reset is given back first
    UsedStale,
    /// Requests are given back as though 2^32 - 1 bytes had been written
    UsedLong,
    /// Requests are given back as though nothing had been written
    UsedEmpty,
    /// The used index goes ahead by a thousand
    UsedJump,
    /// The used index goes back by one
    UsedBack,

    /// Events are noise
    EventGarbage,
    /// Events are given back empty
    EventEmpty,
    /// An event for each buffer, at each request
    EventStorm,

    /// A session's worker refuses it
    CallsRefused,
    /// Every call of a session fails with CUDA_ERROR_UNKNOWN
    CallsFail,
    /// Every call of a session succeeds, and its results are noise
    CallsGarbage,
    /// Every call of a session is answered with noise, its length and the numbers of what is given back included
    CallsWild,
    /// Each kick fills a session's memory with noise
    MemoryGarbage,
}

impl Fault {
    /// Whether somebody answers a session's calls.
    pub(crate) fn serves_calls(self) -> bool {
        matches!(self, Self::CallsRefused | Self::CallsFail | Self::CallsGarbage | Self::CallsWild)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_tells_what_each_fault_does() {
        let readme = include_str!("../README.md");
        for fault in Fault::value_variants() {
            let value = fault.to_possible_value().expect("each has a name");
            let help = value.get_help().expect("each has a sentence");

            let line = format!("| `{}` | {help} |", value.get_name());

            assert!(readme.contains(&line), "missing: {line}");
        }
    }
}
