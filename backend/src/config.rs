//! What the supervisor is started with, checked.

use std::{
    num::NonZero,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use virtio_spec::limits;

use crate::{args::Args, logging};

/// The name by which the host's CUDA driver is found.
const HOST_DRIVER: &str = "libcuda.so.1";

/// The software driver's file name.
const SOFT_DRIVER: &str = "libsoft_gpu.so";

/// More than processes that start at the same moment is of no use. All GPUs' contexts together are no more, either.
const MOST_WARM_WORKERS: u32 = 64;

/// Each is an open file, and is looked for among the others.
const MOST_IMAGES: u32 = 4096;

/// Longer than anything that a lane could wait for awake.
const MOST_SPIN_MICROSECONDS: u32 = 10_000;

/// All lanes that there can be, of the VM and of the local socket.
const MOST_SPINNING: u32 = 2 * limits::MAX_SESSIONS * limits::MAX_LANES;

/// Everything that the supervisor needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    /// QEMU's socket.
    pub(crate) socket_path: Option<PathBuf>,
    /// The local socket.
    pub(crate) local_socket: Option<PathBuf>,
    /// CUDA drivers in order of preference; the first that loads and has a device is taken.
    pub(crate) drivers: Vec<String>,
    /// Value of `CUDA_VISIBLE_DEVICES` in workers.
    pub(crate) gpus: Option<String>,
    /// Log filter of all processes.
    pub(crate) log: String,
    /// Bounds below those of the specification.
    pub(crate) limits: Limits,
    /// What is ready before it is asked for.
    pub(crate) warm: Warm,
    /// What is kept of sessions that have ended.
    pub(crate) images: Images,
    /// How lanes wait for requests.
    pub(crate) spin: Spin,
}

/// How a lane looks at its empty ring before it sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Spin {
    /// For how long; 0: not at all, which takes the least power, and costs each request that waits for an answer a
    /// wake-up.
    pub(crate) microseconds: u32,
    /// Lanes of all sessions that do so at once; others sleep. Several supervisors on a host do not know of each other:
    /// each is given its share.
    pub(crate) threads: u32,
}

impl Default for Spin {
    fn default() -> Self {
        Self::for_processors(std::thread::available_parallelism().map_or(1, NonZero::get))
    }
}

impl Spin {
    /// Where there are some to spare, a lane looks for longer than it takes to wake one up that has slept, through the
    /// supervisor and on a virtual processor that has slept, too (100 µs): else one that has slept once, and was
    /// late with what came then, goes on sleeping.
    fn for_processors(processors: usize) -> Self {
        let half = u32::try_from(processors / 2).unwrap_or(MOST_SPINNING);
        let microseconds = if processors < 4 { 50 } else { 500 };
        Self { microseconds, threads: half.clamp(1, MOST_SPINNING) }
    }
}

/// Images of code that other processes of the VM, or of the user, need not send again; 0 of either: none are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Images {
    /// MiB of the host's memory that they take at most.
    pub(crate) megabytes: u32,
    /// Images at most, each of which is an open file.
    pub(crate) entries: u32,
}

impl Images {
    /// Bytes at most.
    pub(crate) fn bytes(self) -> u64 {
        u64::from(self.megabytes) << 20
    }

    /// Whether none are kept.
    pub(crate) fn is_off(self) -> bool {
        self.megabytes == 0 || self.entries == 0
    }
}

impl Default for Images {
    fn default() -> Self {
        Self { megabytes: 512, entries: 256 }
    }
}

/// What is ready before it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Warm {
    /// Workers that have initialised the driver, and wait for a session. Each is a process with the driver's memory, and
    /// takes none of the GPU's.
    pub(crate) workers: u32,
    /// More of them for each GPU, which also have its primary context and a warm compiler. Each takes as much of the GPU's
    /// memory as an idle program, on a H200 about 530 MiB.
    pub(crate) contexts: u32,
}

impl Default for Warm {
    /// One: a process finds the driver initialised, and the next one comes while it works.
    fn default() -> Self {
        Self { workers: 1, contexts: 0 }
    }
}

impl Warm {
    /// Contexts of the GPU at a place, so that all GPUs' are no more than [`MOST_WARM_WORKERS`].
    pub(crate) fn contexts_of(self, place: u32) -> u32 {
        let before = self.contexts.saturating_mul(place);
        self.contexts.min(MOST_WARM_WORKERS.saturating_sub(self.workers).saturating_sub(before))
    }
}

/// Bounds that the operator can set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Limits {
    /// Sessions of the VM at once.
    pub(crate) max_sessions: u32,
    /// Sessions of one user of the local socket at once.
    pub(crate) max_sessions_per_user: u32,
    /// Connections of one user of the local socket at once: processes that only ask what devices there are keep one
    /// for a moment.
    pub(crate) max_connections_per_user: u32,
    /// Seconds in which the driver has to say what devices there are: on hosts with many GPUs it starts slowly.
    pub(crate) discovery_seconds: u32,
}

impl Limits {
    /// How long discovery may take.
    pub(crate) fn discovery_time(&self) -> Duration {
        Duration::from_secs(self.discovery_seconds.into())
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_sessions: limits::MAX_SESSIONS,
            max_sessions_per_user: limits::MAX_SESSIONS / 4,
            max_connections_per_user: limits::MAX_SESSIONS,
            discovery_seconds: 60,
        }
    }
}

/// The TOML file: the options' names as keys.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct File {
    socket_path: Option<PathBuf>,
    local_socket: Option<PathBuf>,
    driver: Option<String>,
    gpu: Option<String>,
    log: Option<String>,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    warm: Warm,
    #[serde(default)]
    images: Images,
    #[serde(default)]
    spin: Spin,
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("the configuration file {0} cannot be read")]
    Read(PathBuf, #[source] std::io::Error),
    #[error("the configuration file {0} is not what is expected")]
    Parse(PathBuf, #[source] Box<toml::de::Error>),
    #[error("nothing to listen on: give --socket-path, --local-socket or both")]
    NoSocket,
    #[error("--gpu expects ordinals or UUIDs separated by commas, found {0:?}")]
    Gpu(String),
    #[error(
        "the software driver {SOFT_DRIVER} is neither beside {0} nor in ../lib/vcompute; build or install it"
    )]
    NoSoftDriver(PathBuf),
    #[error("the path of this executable is unknown")]
    Executable(#[source] std::io::Error),
    #[error("warm.workers and warm.contexts are {0} together; they must be from 0 to {MOST_WARM_WORKERS}")]
    Warm(u32),
    #[error("images.entries is {0}; it must be from 0 to {MOST_IMAGES}")]
    Images(u32),
    #[error("spin.{name} is {value}; it must be from {least} to {most}")]
    Spin { name: &'static str, value: u32, least: u32, most: u32 },
    #[error("limits.{name} is {value}; it must be from 1 to {most}")]
    Limit { name: &'static str, value: u32, most: u32 },
}

impl TryFrom<Args> for Config {
    type Error = ConfigError;

    fn try_from(args: Args) -> Result<Self, ConfigError> {
        let file = match &args.config {
            Some(path) => read(path)?,
            None => File::default(),
        };
        let executable = std::env::current_exe().map_err(ConfigError::Executable)?;
        Self::merge(args, file, &executable)
    }
}

impl Config {
    fn merge(args: Args, file: File, executable: &Path) -> Result<Self, ConfigError> {
        let socket_path = args.socket_path.or(file.socket_path);
        let local_socket = args.local_socket.or(file.local_socket);
        if socket_path.is_none() && local_socket.is_none() {
            return Err(ConfigError::NoSocket);
        }
        let gpus = args.gpu.or(file.gpu);
        if let Some(list) = gpus.as_ref().filter(|list| !is_gpu_list(list)) {
            return Err(ConfigError::Gpu(list.clone()));
        }
        check_limits(&file.limits)?;
        let warm = file.warm.workers.saturating_add(file.warm.contexts);
        if warm > MOST_WARM_WORKERS {
            return Err(ConfigError::Warm(warm));
        }
        if file.images.entries > MOST_IMAGES {
            return Err(ConfigError::Images(file.images.entries));
        }
        check_spin(&file.spin)?;
        Ok(Self {
            socket_path,
            local_socket,
            drivers: drivers(args.driver.or(file.driver).as_deref().unwrap_or("auto"), executable)?,
            gpus,
            log: args.log.or(file.log).unwrap_or_else(|| logging::DEFAULT_FILTER.to_owned()),
            limits: file.limits,
            warm: file.warm,
            images: file.images,
            spin: file.spin,
        })
    }
}

fn read(path: &Path) -> Result<File, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Read(path.to_owned(), error))?;
    toml::from_str(&text).map_err(|error| ConfigError::Parse(path.to_owned(), Box::new(error)))
}

/// Which libraries to try, in order.
fn drivers(wanted: &str, executable: &Path) -> Result<Vec<String>, ConfigError> {
    let soft = soft_driver(executable);
    let missing = || ConfigError::NoSoftDriver(executable.to_owned());
    match wanted {
        "soft" => Ok(vec![soft.ok_or_else(missing)?]),
        "auto" => Ok(std::iter::once(HOST_DRIVER.to_owned()).chain(soft).collect()),
        path => Ok(vec![path.to_owned()]),
    }
}

/// Where the software driver lies: beside the executable (a build tree), or where a package puts it.
fn soft_driver(executable: &Path) -> Option<String> {
    let folder = executable.parent()?;
    [folder.join(SOFT_DRIVER), folder.join("../lib/vcompute").join(SOFT_DRIVER)]
        .into_iter()
        .find(|path| path.is_file())
        .and_then(|path| path.into_os_string().into_string().ok())
}

fn is_gpu_list(list: &str) -> bool {
    list.split(',').all(|gpu| {
        !gpu.is_empty()
            && gpu.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'/')
    })
}

fn check_spin(wanted: &Spin) -> Result<(), ConfigError> {
    for (name, value, least, most) in [
        ("microseconds", wanted.microseconds, 0, MOST_SPIN_MICROSECONDS),
        ("threads", wanted.threads, 1, MOST_SPINNING),
    ] {
        if !(least..=most).contains(&value) {
            return Err(ConfigError::Spin { name, value, least, most });
        }
    }
    Ok(())
}

fn check_limits(wanted: &Limits) -> Result<(), ConfigError> {
    let most = limits::MAX_SESSIONS;
    for (name, value, most) in [
        ("max-sessions", wanted.max_sessions, most),
        ("max-sessions-per-user", wanted.max_sessions_per_user, most),
        ("max-connections-per-user", wanted.max_connections_per_user, most),
        ("discovery-seconds", wanted.discovery_seconds, 600),
    ] {
        if value == 0 || value > most {
            return Err(ConfigError::Limit { name, value, most });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> Args {
        Args {
            socket_path: Some("/run/vm.sock".into()),
            driver: Some("/opt/libcuda.so".into()),
            ..Args::default()
        }
    }

    fn merge(args: Args, file: &str) -> Result<Config, ConfigError> {
        let file = toml::from_str(file).expect("the test's file parses");
        Config::merge(args, file, Path::new("/usr/bin/vhost-user-compute"))
    }

    #[test]
    fn command_line_takes_precedence_over_the_file() {
        let config =
            merge(args(), "socket-path = '/other'\ngpu = '0,1'\n[limits]\nmax-sessions = 3").unwrap();
        assert_eq!(config.socket_path.as_deref(), Some(Path::new("/run/vm.sock")));
        assert_eq!(config.gpus.as_deref(), Some("0,1"));
        assert_eq!(config.limits.max_sessions, 3);
        assert_eq!(config.drivers, ["/opt/libcuda.so"]);
    }

    #[test]
    fn nothing_to_listen_on_is_refused() {
        assert!(matches!(merge(Args::default(), ""), Err(ConfigError::NoSocket)));
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(toml::from_str::<File>("sockets = 3").is_err());
        assert!(toml::from_str::<File>("[limits]\nmax-session = 3").is_err());
    }

    #[test]
    fn gpu_lists_are_ordinals_or_uuids() {
        assert!(is_gpu_list("0"));
        assert!(is_gpu_list("GPU-8932f937-d72c-4106-c12f-20bd9faed9f6,1"));
        assert!(is_gpu_list("MIG-GPU-8932f937/1/0"));
        assert!(!is_gpu_list(""));
        assert!(!is_gpu_list("0,,1"));
        assert!(!is_gpu_list("0;rm"));
    }

    #[test]
    fn warm_workers_are_a_few() {
        assert_eq!(merge(args(), "").unwrap().warm, Warm { workers: 1, contexts: 0 });
        assert_eq!(merge(args(), "[warm]\nworkers = 0").unwrap().warm.workers, 0);
        assert_eq!(merge(args(), "[warm]\nworkers = 2").unwrap().warm.workers, 2);
        assert_eq!(merge(args(), "[warm]\ncontexts = 1").unwrap().warm, Warm { workers: 1, contexts: 1 });
        let error = merge(args(), "[warm]\nworkers = 60\ncontexts = 5").unwrap_err();
        assert_eq!(
            error.to_string(),
            "warm.workers and warm.contexts are 65 together; they must be from 0 to 64"
        );
    }

    #[test]
    fn images_can_be_switched_off() {
        assert!(!merge(args(), "").unwrap().images.is_off());
        assert!(merge(args(), "[images]\nmegabytes = 0").unwrap().images.is_off());
        assert!(merge(args(), "[images]\nentries = 0").unwrap().images.is_off());
        assert_eq!(merge(args(), "[images]\nmegabytes = 3").unwrap().images.bytes(), 3 << 20);
        assert!(matches!(merge(args(), "[images]\nentries = 5000"), Err(ConfigError::Images(5000))));
    }

    #[test]
    fn spinning_is_bounded_and_can_be_switched_off() {
        let default = merge(args(), "").unwrap().spin;
        assert_eq!(Spin::for_processors(1), Spin { microseconds: 50, threads: 1 });
        assert_eq!(Spin::for_processors(2), Spin { microseconds: 50, threads: 1 });
        assert_eq!(Spin::for_processors(16), Spin { microseconds: 500, threads: 8 });
        let off = merge(args(), "[spin]\nmicroseconds = 0").unwrap().spin;
        assert_eq!(off, Spin { microseconds: 0, ..default });
        let most = merge(args(), "[spin]\nmicroseconds = 10000\nthreads = 32768").unwrap().spin;
        assert_eq!(most, Spin { microseconds: 10_000, threads: 32_768 });
        for (file, error) in [
            ("microseconds = 10001", "spin.microseconds is 10001; it must be from 0 to 10000"),
            ("threads = 0", "spin.threads is 0; it must be from 1 to 32768"),
            ("threads = 32769", "spin.threads is 32769; it must be from 1 to 32768"),
        ] {
            assert_eq!(merge(args(), &format!("[spin]\n{file}")).unwrap_err().to_string(), error);
        }
        assert!(toml::from_str::<File>("[spin]\nmicroseconds = -1").is_err());
    }

    #[test]
    fn limits_stay_within_the_specification() {
        for file in ["[limits]\nmax-sessions = 0", "[limits]\nmax-sessions-per-user = 100000"] {
            assert!(matches!(merge(args(), file), Err(ConfigError::Limit { .. })), "{file}");
        }
    }

    #[test]
    fn software_driver_is_found_beside_the_executable() {
        let folder = tempfile::tempdir().unwrap();
        let executable = folder.path().join("vhost-user-compute");
        assert!(matches!(drivers("soft", &executable), Err(ConfigError::NoSoftDriver(_))));
        assert_eq!(drivers("auto", &executable).unwrap(), [HOST_DRIVER]);
        std::fs::write(folder.path().join(SOFT_DRIVER), b"").unwrap();
        assert_eq!(drivers("soft", &executable).unwrap().len(), 1);
        assert_eq!(drivers("auto", &executable).unwrap().len(), 2);
    }
}
