//! Keys, and what is on the screen after them.

use ratatui::{
    Terminal,
    backend::TestBackend,
    buffer::Cell,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
};

use super::{
    draw::{Told, draw},
    picture::Picture,
    state::{State, Wish},
};
use crate::profile::{Profile, fixture};

/// A terminal of 80 columns and 24 rows, and what it shows.
struct Shown {
    terminal: Terminal<TestBackend>,
    state: State,
    profile: Profile,
    picture: Picture,
}

impl Shown {
    fn new(profile: Profile) -> Self {
        let state = State::new();
        let picture = Picture::new(profile.clone(), &state.view, state.markers);
        let mut shown = Self {
            terminal: Terminal::new(TestBackend::new(80, 24)).unwrap(),
            state,
            profile,
            picture,
        };
        shown.look();
        shown
    }

    /// The next second has come, or something else is looked at.
    fn look(&mut self) {
        let (view, markers) = (self.state.view, self.state.markers);
        self.picture = Picture::new(self.profile.clone(), &view, markers);
        self.state.list(&self.picture);
    }

    fn press(&mut self, code: KeyCode) -> Wish {
        let key = KeyEvent::new(code, KeyModifiers::NONE);
        let wish = self.state.key(key, &self.picture);
        if wish == Wish::Look {
            self.look();
        }
        wish
    }

    fn keys(&mut self, keys: &str) {
        for c in keys.chars() {
            self.press(match c {
                '\n' => KeyCode::Enter,
                '\t' => KeyCode::Tab,
                '>' => KeyCode::Right,
                '<' => KeyCode::Left,
                'v' => KeyCode::Down,
                '^' => KeyCode::Up,
                c => KeyCode::Char(c),
            });
        }
    }

    fn search(&mut self, text: &str) {
        self.press(KeyCode::Char('/'));
        for c in text.chars() {
            self.press(KeyCode::Char(c));
        }
        self.press(KeyCode::Enter);
    }

    fn screen(&mut self) -> Vec<String> {
        let told = Told {
            title: "a title",
            url: "http://127.0.0.1:7717/",
            ..Told::default()
        };
        let (state, picture) = (&mut self.state, &self.picture);
        self.terminal
            .draw(|frame| draw(frame, state, picture, &told))
            .unwrap();
        let buffer = self.terminal.backend().buffer();
        let cells = buffer.content.chunks(80);
        cells
            .map(|row| {
                let text: String = row.iter().map(Cell::symbol).collect();
                text.trim_end().to_owned()
            })
            .collect()
    }

    /// The names that are listed, with what is before them.
    fn listed(&mut self) -> Vec<String> {
        let rows = self.screen()[4..23].to_vec();
        let named = rows.into_iter().filter(|row| !row.is_empty());
        named.map(|row| row.chars().skip(29).collect()).collect()
    }

    fn selected(&self) -> &str {
        &self.state.rows[self.state.selected].name
    }
}

#[test]
fn functions_are_listed_by_what_they_weigh() {
    let mut shown = Shown::new(fixture::profile());
    let screen = shown.screen();
    assert_eq!(screen[0], "http://127.0.0.1:7717/");
    assert_eq!(screen[2], "a title: last 30 s, 100 samples");
    assert!(
        screen[4].starts_with("  50.00    92.00  user       parse<int; char>(a)"),
        "{screen:#?}"
    );
    assert!(screen[23].contains("? keys"));
    shown.keys("s");
    let screen = shown.screen();
    assert!(screen[3].contains("functions by total share"));
    assert!(screen[4].contains("92.00"), "{screen:#?}");
}

#[test]
fn what_is_open_and_selected_stays_so() {
    let mut shown = Shown::new(fixture::profile());
    shown.keys("\t");
    let closed = shown.listed();
    assert!(
        closed
            .iter()
            .all(|row| row.starts_with("+ ") || row.starts_with("  ")),
        "{closed:#?}"
    );
    shown.keys("\n");
    let open = shown.listed();
    assert!(
        open[0].starts_with("- ") && open.len() > closed.len(),
        "{open:#?}"
    );
    shown.keys("v");
    let selected = shown.selected().to_owned();
    // Something that is heavier comes, and stands before all.
    let process = shown.profile.intern("heavy");
    let mut stack = shown.profile.stacks()[0].clone();
    (stack.process, stack.samples, stack.weight) = (process, 1000, 1000);
    shown.profile.push(stack);
    shown.look();
    let listed = shown.listed();
    assert!(listed[0].ends_with("heavy"), "{listed:#?}");
    assert_eq!(listed[1..], open);
    assert_eq!(shown.selected(), selected);
    // To the caller, and closed again.
    shown.keys("<<");
    assert_eq!(shown.listed()[1..], closed);
}

#[test]
fn a_search_opens_the_way_to_its_match() {
    let mut shown = Shown::new(fixture::profile());
    shown.keys("\t");
    shown.search("^DO_SYS");
    assert_eq!(shown.selected(), "do_syscall_64");
    assert!(
        shown.screen()[2].contains("42.00 % match /^DO_SYS/"),
        "{:?}",
        shown.screen()[2]
    );
    // What is no expression is searched as it is.
    shown.search("parse<int; char>(");
    assert_eq!(shown.selected(), "parse<int; char>(a)");
    let first = shown.state.selected;
    shown.keys("n");
    shown.keys("N");
    assert_eq!(shown.state.selected, first);
}

#[test]
fn toggles_change_what_is_shown_and_say_so() {
    let mut shown = Shown::new(fixture::profile());
    shown.keys("ku");
    assert!(shown.screen()[3].contains("no kernel, no user"));
    assert!(
        !shown
            .listed()
            .iter()
            .any(|row| row.contains("do_syscall_64"))
    );
    shown.keys("kuip");
    assert!(shown.screen()[3].contains("by PID, interrupts apart"));
    shown.keys("1");
    assert!(shown.screen()[2].starts_with("a title: last 5 s"));
    shown.keys("4 ");
    assert!(shown.screen()[2].starts_with("a title, PAUSED: since start"));
    shown.keys("?");
    assert!(
        shown
            .screen()
            .iter()
            .any(|row| row.contains("interrupts apart, or on whom they hit"))
    );
    shown.keys("x");
    assert_eq!(shown.press(KeyCode::Char('q')), Wish::End);
}

#[test]
fn names_do_not_reach_the_terminal_as_commands() {
    let mut profile = fixture::profile();
    let process = profile.intern("\u{1b}[2Jcleared\u{202e}");
    let mut stack = profile.stacks()[0].clone();
    (stack.process, stack.weight) = (process, 1000);
    profile.push(stack);
    let mut shown = Shown::new(profile);
    shown.keys("\t");
    assert_eq!(shown.listed()[0], "+ _[2Jcleared_");
    assert!(!shown.screen().concat().contains('\u{1b}'));
}

#[test]
fn little_room_is_no_mistake() {
    for (width, height) in [(1, 1), (10, 4), (30, 6)] {
        let mut shown = Shown::new(fixture::profile());
        shown.terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        shown.keys("\t?");
        let told = Told::default();
        let (state, picture) = (&mut shown.state, &shown.picture);
        shown
            .terminal
            .draw(|frame| draw(frame, state, picture, &told))
            .unwrap();
    }
}
