//! What the user has chosen, and what keys change of it. What is open and selected is kept by names,
//! so that it is the same after the next second.

use std::{collections::HashSet, time::Duration};

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use regex::{Regex, RegexBuilder};

use super::picture::{Key, Order, Picture, Row};
use crate::{
    live::Window,
    profile::view::{Processes, View},
};

/// All keys, for the help.
pub(super) const KEYS: &[(&str, &str)] = &[
    ("Tab", "functions, or the tree of calls"),
    ("↑ ↓ PgUp PgDn Home End", "select"),
    ("→ Enter", "open; ← close, or go to the caller"),
    ("1 2 3 4", "the last 5 s, 30 s, 5 min, all since the start"),
    ("Space", "pause, or go on"),
    ("s", "order of functions: by own weight, or total"),
    ("/", "search (a regular expression); n N next, previous"),
    ("k u", "kernel and user frames: show or hide"),
    ("l", "inlined functions: show or hide"),
    ("m", "changes of stack: show or hide"),
    ("i", "interrupts apart, or on whom they hit"),
    (
        "p",
        "processes: by name, by name and PID, by thread name, merged",
    ),
    ("q Esc Ctrl-C", "end"),
];

/// A list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Pane {
    #[default]
    Functions,
    Tree,
}

/// What a key asks for beyond being drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// Nothing.
    None,
    /// The samples, or how they are looked at, are others.
    Look,
    /// To end.
    End,
}

/// What is searched for.
#[derive(Debug, Default)]
pub(super) struct Search {
    pub(super) text: String,
    expression: Option<Regex>,
}

impl Search {
    fn new(text: String) -> Self {
        let build = |text: &str| {
            RegexBuilder::new(text)
                .case_insensitive(true)
                .size_limit(1 << 20)
                .build()
        };
        // What is no expression is looked for as it is.
        let expression = build(&text).or_else(|_| build(&regex::escape(&text))).ok();
        Self {
            expression: expression.filter(|_| !text.is_empty()),
            text,
        }
    }

    pub(super) fn is_active(&self) -> bool {
        self.expression.is_some()
    }

    pub(super) fn matches(&self, name: &str) -> bool {
        { self.expression.as_ref() }.is_some_and(|expression| expression.is_match(name))
    }
}

/// What the user has chosen.
#[derive(Debug)]
pub(super) struct State {
    pub(super) pane: Pane,
    pub(super) window: Window,
    pub(super) view: View,
    pub(super) markers: bool,
    pub(super) order: Order,
    pub(super) paused: bool,
    pub(super) help: bool,
    pub(super) search: Search,
    /// What has been typed of a search.
    pub(super) typed: Option<String>,
    open: HashSet<Vec<Key>>,
    selected_function: Option<Key>,
    selected_node: Option<Vec<Key>>,
    /// The rows of the list, and the selected one.
    pub(super) rows: Vec<Row>,
    pub(super) selected: usize,
    /// The first row on the screen, and how many there is room for.
    pub(super) top: usize,
    pub(super) room: usize,
}

const WINDOWS: [(char, Window); 4] = [
    ('1', Window::Last(Duration::from_secs(5))),
    ('2', Window::Last(Duration::from_secs(30))),
    ('3', Window::Last(Duration::from_secs(300))),
    ('4', Window::Start),
];

impl State {
    pub(super) fn new() -> Self {
        Self {
            pane: Pane::Functions,
            window: Window::Last(Duration::from_secs(30)),
            view: View::default(),
            markers: true,
            order: Order::Own,
            paused: false,
            help: false,
            search: Search::default(),
            typed: None,
            open: HashSet::new(),
            selected_function: None,
            selected_node: None,
            rows: Vec::new(),
            selected: 0,
            top: 0,
            room: 1,
        }
    }

    /// Lists the rows of a picture, and finds the selected one again.
    pub(super) fn list(&mut self, picture: &Picture) {
        let found = match self.pane {
            Pane::Functions => {
                self.rows = picture.functions(self.order);
                let key = self.selected_function.as_ref();
                key.and_then(|key| {
                    let same = |row: &Row| row.name == key.0 && row.class == key.1;
                    self.rows.iter().position(same)
                })
            }
            Pane::Tree => {
                self.rows = picture.rows(&self.open);
                let path = self.selected_node.as_ref();
                path.and_then(|path| {
                    let same =
                        |row: &Row| row.depth + 1 == path.len() && picture.path(row) == *path;
                    self.rows.iter().position(same)
                })
            }
        };
        self.selected = found.unwrap_or(self.selected.min(self.rows.len().saturating_sub(1)));
        self.scroll();
    }

    fn scroll(&mut self) {
        self.top = self.top.min(self.selected);
        if self.selected >= self.top + self.room {
            self.top = self.selected + 1 - self.room;
        }
        self.top = self.top.min(self.rows.len().saturating_sub(self.room));
    }

    /// How many rows there is room for.
    pub(super) fn fit(&mut self, room: usize) {
        self.room = room.max(1);
        self.scroll();
    }

    fn select(&mut self, picture: &Picture, selected: usize) {
        self.selected = selected.min(self.rows.len().saturating_sub(1));
        let row = self.rows.get(self.selected);
        match self.pane {
            Pane::Functions => {
                self.selected_function = row.map(|row| (row.name.clone(), row.class));
            }
            Pane::Tree => self.selected_node = row.map(|row| picture.path(row)),
        }
        self.scroll();
    }

    /// What a key does.
    pub(super) fn key(&mut self, key: KeyEvent, picture: &Picture) -> Wish {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Wish::End,
                _ => Wish::None,
            };
        }
        if self.typed.is_some() {
            self.type_search(key.code, picture);
            return Wish::None;
        }
        if std::mem::take(&mut self.help) {
            return Wish::None;
        }
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Wish::End,
            KeyCode::Char('?' | 'h') => self.help = true,
            KeyCode::Char('/') => self.typed = Some(String::new()),
            KeyCode::Char('n') if self.search.is_active() => self.go_to_match(picture, false),
            KeyCode::Char('N') if self.search.is_active() => self.go_to_match(picture, true),
            KeyCode::Tab | KeyCode::BackTab => {
                self.pane = match self.pane {
                    Pane::Functions => Pane::Tree,
                    Pane::Tree => Pane::Functions,
                };
                (self.selected, self.top) = (0, 0);
                self.list(picture);
            }
            KeyCode::Char('s') => {
                self.order = match self.order {
                    Order::Own => Order::Total,
                    Order::Total => Order::Own,
                };
                self.list(picture);
            }
            KeyCode::Char(c) => return self.toggle(c),
            code => self.go(code, picture),
        }
        Wish::None
    }

    fn toggle(&mut self, c: char) -> Wish {
        if let Some((_, window)) = WINDOWS.iter().find(|(key, _)| *key == c) {
            self.window = *window;
            self.paused = false;
            return Wish::Look;
        }
        match c {
            ' ' => self.paused = !self.paused,
            'k' => self.view.kernel = !self.view.kernel,
            'u' => self.view.user = !self.view.user,
            'l' => self.view.inlined = !self.view.inlined,
            'i' => self.view.apart = !self.view.apart,
            'm' => self.markers = !self.markers,
            'p' => {
                self.view.processes = match self.view.processes {
                    Processes::Name => Processes::Id,
                    Processes::Id => Processes::Thread,
                    Processes::Thread => Processes::Merged,
                    Processes::Merged => Processes::Name,
                }
            }
            _ => return Wish::None,
        }
        Wish::Look
    }

    fn go(&mut self, code: KeyCode, picture: &Picture) {
        let last = self.rows.len().saturating_sub(1);
        let to = match code {
            KeyCode::Up => self.selected.saturating_sub(1),
            KeyCode::Down => self.selected + 1,
            KeyCode::PageUp => self.selected.saturating_sub(self.room),
            KeyCode::PageDown => self.selected + self.room,
            KeyCode::Home => 0,
            KeyCode::End => last,
            KeyCode::Right | KeyCode::Enter if self.pane == Pane::Tree => {
                return self.open_or_close(picture, code == KeyCode::Enter);
            }
            KeyCode::Left if self.pane == Pane::Tree => return self.close_or_leave(picture),
            _ => return,
        };
        self.select(picture, to);
    }

    fn open_or_close(&mut self, picture: &Picture, close: bool) {
        let Some(row) = self.rows.get(self.selected).filter(|row| row.has_children) else {
            return;
        };
        let path = picture.path(row);
        if row.open && close {
            self.open.remove(&path);
        } else if row.open {
            return self.select(picture, self.selected + 1);
        } else {
            self.open.insert(path);
        }
        self.select(picture, self.selected);
        self.list(picture);
    }

    fn close_or_leave(&mut self, picture: &Picture) {
        let Some(row) = self.rows.get(self.selected) else {
            return;
        };
        if row.open {
            self.open.remove(&picture.path(row));
            self.select(picture, self.selected);
            return self.list(picture);
        }
        let caller = self.rows[..self.selected]
            .iter()
            .rposition(|other| other.depth < row.depth);
        if let Some(caller) = caller {
            self.select(picture, caller);
        }
    }

    fn type_search(&mut self, code: KeyCode, picture: &Picture) {
        let typed = self.typed.get_or_insert_default();
        match code {
            KeyCode::Char(c) => typed.push(c),
            KeyCode::Backspace if !typed.is_empty() => {
                typed.pop();
            }
            KeyCode::Backspace | KeyCode::Esc => self.typed = None,
            KeyCode::Enter => {
                let text = std::mem::take(typed);
                self.typed = None;
                self.search = Search::new(text);
                if self.search.is_active() {
                    self.go_to_match(picture, false);
                }
            }
            _ => {}
        }
    }

    /// Selects the next match, and opens what leads to it.
    fn go_to_match(&mut self, picture: &Picture, back: bool) {
        let search = &self.search;
        match self.pane {
            Pane::Functions => {
                let count = self.rows.len();
                let index = |step: usize| match back {
                    false => (self.selected + step) % count,
                    true => (self.selected + count - step) % count,
                };
                let found = (1..=count)
                    .map(index)
                    .find(|row| search.matches(&self.rows[*row].name));
                if let Some(found) = found {
                    self.select(picture, found);
                }
            }
            Pane::Tree => {
                let from = self.rows.get(self.selected);
                let matches = |name: &str| search.matches(name);
                let Some(path) = picture.next_match(from, back, matches) else {
                    return;
                };
                for length in 1..path.len() {
                    self.open.insert(path[..length].to_vec());
                }
                self.selected_node = Some(path);
                self.list(picture);
            }
        }
    }
}
