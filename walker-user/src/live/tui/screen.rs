//! The terminal: taken when there is something to see, and given back however the run ends. What
//! would be written to standard error meanwhile is kept, and written then.

use std::{
    env,
    fs::File,
    io::{self, IsTerminal as _, Read as _, Seek as _, Write as _, stderr, stdout},
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use ratatui::{
    Terminal,
    backend::CrosstermBackend,
    crossterm::{
        cursor::Show,
        event::{self, Event, KeyEventKind},
        execute,
        terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
    },
};

use super::{
    draw::{Told, draw},
    picture::Picture,
    state::{State, Wish},
};
use crate::{
    live::hub::Live,
    sys::{privileges, standard_error},
};

/// How often the samples are looked at.
const REFRESH: Duration = Duration::from_secs(1);
/// At most this share of the time is spent on that.
const SHARE: u32 = 10;
/// How long a key may wait for a picture, and the end for the terminal.
const PATIENCE: Duration = Duration::from_millis(100);
/// How much of what was complained about is looked at for the last line.
const COMPLAINT: u64 = 4096;

/// Standard error goes into a file until this is dropped.
#[derive(Debug)]
pub struct Screen {
    complaints: File,
    before: Option<OwnedFd>,
}

/// The picture on the screen, until this is dropped.
#[derive(Debug)]
pub struct Shown {
    /// Whether the thread shall end, and whether it has.
    end: Arc<AtomicBool>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// Given back after the terminal.
    _screen: Screen,
}

impl Screen {
    /// Keeps standard error from the screen.
    ///
    /// # Errors
    /// If standard input or output is no terminal, or there is no room for a temporary file.
    pub fn take() -> io::Result<Self> {
        if !stdout().is_terminal() || !io::stdin().is_terminal() {
            let why = "standard input and output have to be a terminal; without --tui the page of the \
                       URL shows the same";
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
        let complaints = tempfile::tempfile()?;
        let before = standard_error::replace(&complaints)?;
        Ok(Self {
            complaints,
            before: Some(before),
        })
    }

    /// Shows what is live.
    ///
    /// # Errors
    /// If the terminal cannot be used as one.
    pub fn show(self, live: Arc<Live>, title: String, url: String) -> io::Result<Shown> {
        let complaints = self.complaints.try_clone()?;
        enable_raw_mode()?;
        // Gives the terminal back if what follows fails.
        let mut shown = Shown {
            end: Arc::default(),
            ended: Arc::default(),
            thread: None,
            _screen: self,
        };
        execute!(stdout(), EnterAlternateScreen)?;
        let mut view = View {
            terminal: Terminal::new(CrosstermBackend::new(stdout()))?,
            live,
            title,
            url,
            complaints,
            state: State::new(),
            colours: env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        };
        let (end, ended) = (Arc::clone(&shown.end), Ends(Arc::clone(&shown.ended)));
        // It needs nothing but the terminal, which is open.
        let begin = || privileges::keep(&[]);
        shown.thread = Some(privileges::start("terminal", begin, move |_| {
            // Also if it panics: nobody could end the run then.
            let _ended = ended;
            // Without a terminal there is nobody to tell.
            let _gone = view.run(&end);
        })?);
        Ok(shown)
    }
}

impl Shown {
    /// Whether the user has asked for the end.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }
}

/// Says so when it is dropped.
struct Ends(Arc<AtomicBool>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
        let _left = execute!(stdout(), LeaveAlternateScreen, Show);
        let _restored = disable_raw_mode();
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if let Some(before) = self.before.take()
            && standard_error::restore(&before).is_ok()
        {
            let mut text = Vec::new();
            let _rewound = self.complaints.rewind();
            let _read = self.complaints.read_to_end(&mut text);
            let _written = stderr().write_all(&text);
        }
    }
}

struct View {
    terminal: Terminal<CrosstermBackend<io::Stdout>>,
    live: Arc<Live>,
    title: String,
    url: String,
    complaints: File,
    state: State,
    colours: bool,
}

impl View {
    fn run(&mut self, end: &AtomicBool) -> io::Result<()> {
        let mut picture = self.look();
        let mut due = Instant::now() + REFRESH;
        loop {
            self.draw(&picture)?;
            while !event::poll(PATIENCE)? {
                if end.load(Ordering::Relaxed) {
                    return Ok(());
                }
                if Instant::now() >= due {
                    break;
                }
            }
            let mut look = Instant::now() >= due && !self.state.paused;
            while event::poll(Duration::ZERO)? {
                if let Event::Key(key) = event::read()?
                    && key.kind != KeyEventKind::Release
                {
                    match self.state.key(key, &picture) {
                        Wish::None => {}
                        Wish::Look => look = true,
                        Wish::End => return Ok(()),
                    }
                }
            }
            if look {
                let began = Instant::now();
                picture = self.look();
                due = Instant::now() + REFRESH.max(began.elapsed() * SHARE);
            } else if Instant::now() >= due {
                due = Instant::now() + REFRESH;
            }
        }
    }

    fn look(&mut self) -> Picture {
        let profile = self.live.window(self.state.window);
        let picture = Picture::new(profile, &self.state.view, self.state.markers);
        self.state.list(&picture);
        picture
    }

    fn draw(&mut self, picture: &Picture) -> io::Result<()> {
        let complaint = self.last_complaint().unwrap_or_default();
        let told = Told {
            title: &self.title,
            url: &self.url,
            health: self.live.health(),
            complaint: &complaint,
            colours: self.colours,
        };
        let state = &mut self.state;
        self.terminal
            .draw(|frame| draw(frame, state, picture, &told))?;
        Ok(())
    }

    fn last_complaint(&self) -> io::Result<String> {
        use std::os::unix::fs::FileExt as _;
        let length = self.complaints.metadata()?.len();
        let wanted = length.min(COMPLAINT);
        let mut text = vec![0; wanted as usize];
        self.complaints.read_exact_at(&mut text, length - wanted)?;
        let text = String::from_utf8_lossy(&text);
        Ok(text.lines().next_back().unwrap_or_default().to_owned())
    }
}
