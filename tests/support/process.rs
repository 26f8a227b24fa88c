//! The real binary: a server that can be killed, and commands whose output and exit code are looked at.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::Target;

/// Longer than anything takes here, unless it does not come at all.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is tested: the build of this run, or the one that `POSTRIDER_TEST_BINARY` names by its whole path.
fn executable() -> PathBuf {
    let given = std::env::var_os("POSTRIDER_TEST_BINARY").map(PathBuf::from);
    given.unwrap_or_else(|| env!("CARGO_BIN_EXE_postrider").into())
}

/// How it is called in what it prints to be typed.
pub fn called() -> String {
    let executable = executable();
    let lies_in = |directory| executable.parent().is_some_and(|parent| parent.ends_with(directory));
    match () {
        () if lies_in("target/release") => "cargo run --release --".into(),
        () if lies_in("target/debug") => "cargo run --".into(),
        () => executable.display().to_string(),
    }
}

/// A running command. Killed when dropped.
pub struct Program {
    child: Child,
    lines: Receiver<String>,
    complaints: Option<JoinHandle<String>>,
}

/// What a command has left behind.
#[derive(Debug)]
pub struct Finished {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Program {
    /// Starts a command in `directory`, with its `POSTRIDER_HOME` there. It inherits no variable of ours: the server
    /// refuses those it does not know.
    pub fn start(directory: &Path, arguments: &[&str], input: Option<Vec<u8>>) -> Self {
        Self::start_as(Command::new(executable()), directory, arguments, input)
    }

    /// The same, with no more than so many open files.
    pub fn start_with_descriptors(directory: &Path, arguments: &[&str], descriptors: u32) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"")]).arg(executable());
        Self::start_as(command, directory, arguments, None)
    }

    fn start_as(mut command: Command, directory: &Path, arguments: &[&str], input: Option<Vec<u8>>) -> Self {
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("POSTRIDER_") {
                command.env_remove(name);
            }
        }
        command.env("POSTRIDER_HOME", directory.join("home")).current_dir(directory).args(arguments);
        if arguments.first() == Some(&"serve") {
            // Small, so that tests start fast and rows go through all of the journal's life.
            command.env("POSTRIDER_STORE_SEGMENT_BYTES", "1048576");
        }
        command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
            // A command that ends early closes its end: its output says what happened.
            std::thread::spawn(move || drop(stdin.write_all(&input)));
        }
        let (stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let complaints = std::thread::spawn(move || {
            let mut text = String::new();
            drop(stderr.read_to_string(&mut text));
            text
        });
        Self { child, lines, complaints: Some(complaints) }
    }

    /// The next line on stdout; `None` at its end.
    pub fn line(&self) -> Option<String> {
        match self.lines.recv_timeout(PATIENCE) {
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("no line in time"),
            line => line.ok(),
        }
    }

    /// Lines up to the first that contains `part`, that one included.
    pub fn lines_until(&self, part: &str) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(line) = self.line() {
            let found = line.contains(part);
            lines.push(line);
            if found {
                return lines;
            }
        }
        panic!("{part:?} does not come; there was: {lines:#?}");
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end.
    pub fn finish(mut self) -> Finished {
        let status = self.wait();
        let stdout = self.lines.iter().map(|line| line + "\n").collect();
        let stderr = self.complaints.take().unwrap().join().unwrap();
        Finished { code: status.code(), stdout, stderr }
    }

    fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the command does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A server process on a port and a directory of its own, which outlive it. What a failed test leaves in the directory
/// is kept, so that it can be looked at.
pub struct ServerProcess {
    directory: tempfile::TempDir,
    data: PathBuf,
    port: Port,
    descriptors: Option<u32>,
    running: Option<Program>,
}

impl ServerProcess {
    /// With this `postrider.toml`; an empty one is the default configuration.
    pub fn start(configuration: &str) -> Self {
        Self::start_with(Path::new("data"), configuration, None)
    }

    /// The same, with no more than so many open files.
    pub fn start_limited(configuration: &str, descriptors: Option<u32>) -> Self {
        Self::start_with(Path::new("data"), configuration, descriptors)
    }

    /// The same, with this data directory; a relative one is in the server's own directory.
    pub fn start_on(data: &Path, configuration: &str) -> Self {
        Self::start_with(data, configuration, None)
    }

    fn start_with(data: &Path, configuration: &str, descriptors: Option<u32>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("postrider.toml"), configuration).unwrap();
        let mut server = Self { directory, data: data.to_owned(), port: Port::claim(), descriptors, running: None };
        server.start_again();
        server
    }

    /// Starts on the same directory and port, and waits until it listens.
    pub fn start_again(&mut self) -> Vec<String> {
        let program = self.serve();
        let Some(first) = program.line() else { panic!("the server did not start: {:?}", program.finish()) };
        let mut greeting = vec![first];
        greeting.extend(program.lines_until("next "));
        self.running = Some(program);
        greeting
    }

    /// Starts, and is killed before it may have got anywhere.
    pub fn start_and_kill(&mut self, after: Duration) {
        self.running = Some(self.serve());
        std::thread::sleep(after);
        self.kill();
    }

    /// Starts, gets SIGTERM as soon as it says anything, and ends.
    pub fn start_and_terminate(&mut self) -> Finished {
        let program = self.serve();
        program.line().expect("it starts");
        program.signal(Signal::TERM);
        program.finish()
    }

    fn serve(&self) -> Program {
        let (address, data) = (self.address().to_string(), self.data.display().to_string());
        let arguments = ["serve", "--data", &data, "--listen", &address];
        match self.descriptors {
            Some(descriptors) => Program::start_with_descriptors(self.directory.path(), &arguments, descriptors),
            None => Program::start(self.directory.path(), &arguments, None),
        }
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        let running = self.running.take().expect("a running server");
        running.signal(Signal::KILL);
        running.finish();
    }

    /// SIGTERM; waits for the end.
    pub fn terminate(&mut self) -> Finished {
        let running = self.running.take().expect("a running server");
        running.signal(Signal::TERM);
        running.finish()
    }

    /// Runs a command beside it to its end.
    pub fn run(&self, arguments: &[&str]) -> Finished {
        self.command(arguments).finish()
    }

    /// Starts a command beside it.
    pub fn command(&self, arguments: &[&str]) -> Program {
        Program::start(self.directory.path(), arguments, None)
    }

    /// Whether it is still the process that was started.
    pub fn is_running(&mut self) -> bool {
        self.running.as_mut().is_some_and(|program| matches!(program.child.try_wait(), Ok(None)))
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn data(&self) -> PathBuf {
        self.directory.path().join(&self.data)
    }

    /// Waits for it to end by itself.
    pub fn wait(&mut self) -> Finished {
        self.running.take().expect("a running server").finish()
    }

    /// From now on none of its writes gets beyond so many bytes of a file.
    #[cfg(target_os = "linux")]
    pub fn limit_file_sizes(&self, bytes: u64) {
        use rustix::process::{Resource, Rlimit, prlimit};
        let child = &self.running.as_ref().expect("a running server").child;
        let limit = Rlimit { current: Some(bytes), maximum: None };
        prlimit(Some(Pid::from_child(child)), Resource::Fsize, limit).unwrap();
    }

    /// Memory in use now, in bytes.
    #[cfg(target_os = "linux")]
    pub fn memory(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// The most memory it ever had in use, in bytes; Linux counts it a processor at a time, so that it may go down a little.
    #[cfg(target_os = "linux")]
    pub fn peak_memory(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    /// Files and sockets it has open now.
    #[cfg(target_os = "linux")]
    pub fn descriptors(&self) -> Vec<PathBuf> {
        let pid = self.running.as_ref().expect("a running server").pid();
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        // What is closed meanwhile is not open.
        open.filter_map(|descriptor| std::fs::read_link(descriptor.ok()?.path()).ok()).collect()
    }

    /// From now on it has no more than so many.
    #[cfg(target_os = "linux")]
    pub fn limit_descriptors(&self, descriptors: usize) {
        use rustix::process::{Resource, Rlimit, prlimit};
        let child = &self.running.as_ref().expect("a running server").child;
        let most = Some(descriptors as u64);
        prlimit(Some(Pid::from_child(child)), Resource::Nofile, Rlimit { current: most, maximum: most }).unwrap();
    }

    #[cfg(target_os = "linux")]
    fn status_bytes(&self, key: &str) -> u64 {
        let pid = self.running.as_ref().expect("a running server").pid();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.directory.disable_cleanup(true);
            println!("what the server has left behind is in {}", self.directory.path().display());
        }
    }
}

impl Target for ServerProcess {
    fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port.number))
    }

    fn ca(&self) -> PathBuf {
        self.data().join("tls/ca.pem")
    }
}

/// A port that stays ours while nobody listens on it: below those that the system gives to outgoing connections, and
/// claimed by a locked file against other runs of the tests.
struct Port {
    number: u16,
    _claim: File,
}

impl Port {
    fn claim() -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let start = u16::try_from(std::process::id() % 12_000).unwrap();
        loop {
            let number = 20_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
            let path = std::env::temp_dir().join(format!("postrider-test-port-{number}"));
            // The file may be another user's: then so is the port.
            let Ok(claim) = File::create(path) else { continue };
            if claim.try_lock().is_ok() && TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Self { number, _claim: claim };
            }
        }
    }
}
