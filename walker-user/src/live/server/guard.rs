//! Who may ask: only with the token, only under the name that is listened on, and not too often.
//!
//! A page of another site can make a browser send requests to this machine, also under a name that
//! it lets point here (DNS rebinding): such requests have another `Host` or `Origin`, and no token,
//! as cookies are `SameSite=Strict`.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use subtle::ConstantTimeEq as _;

use super::{connections::Known, fixed, refuse};

/// Random bytes of a token.
pub const TOKEN_BYTES: usize = 24;
/// Requests a second on average, and at once. The page takes some twenty.
const RATE: f64 = 100.0;
const BURST: f64 = 400.0;

/// How many requests may come now, and when that was so.
#[derive(Debug)]
struct Room(Mutex<(f64, Instant)>);

impl Room {
    fn new() -> Self {
        Self(Mutex::new((BURST, Instant::now())))
    }

    /// Whether one more may come; that is counted.
    fn take(&self) -> bool {
        let mut room = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let more = (now - room.1).as_secs_f64() * RATE;
        *room = ((room.0 + more).min(BURST), now);
        let has_room = room.0 >= 1.0;
        if has_room {
            room.0 -= 1.0;
        }
        has_room
    }
}

/// The longest path with its query.
const MAX_URI: usize = 2048;

/// A token that nobody can guess.
///
/// # Errors
/// If the kernel has no random numbers.
pub fn new_token() -> io::Result<String> {
    let mut bytes = [0; TOKEN_BYTES];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

/// Who may ask.
#[derive(Debug)]
pub struct Access {
    address: SocketAddr,
    token: String,
    /// Of those who have the token, and of the others, who cannot use up the room of the former.
    known: Room,
    strangers: Room,
}

impl Access {
    /// Those with this token, at this address.
    #[must_use]
    pub fn new(address: SocketAddr, token: String) -> Self {
        Self {
            address,
            token,
            known: Room::new(),
            strangers: Room::new(),
        }
    }

    /// Whether a `Host`, or what comes after the scheme of an `Origin`, is this server. One that
    /// listens on every address has no name that could be checked, but never has a name of letters:
    /// those could be anybody's.
    fn is_here(&self, authority: &str) -> bool {
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port),
            _ => (authority, "80"),
        };
        if port.parse() != Ok(self.address.port()) {
            return false;
        }
        let ip: Result<IpAddr, _> = host.trim_start_matches('[').trim_end_matches(']').parse();
        match ip {
            Ok(ip) => self.address.ip().is_unspecified() || self.address.ip() == ip,
            Err(_) => host.eq_ignore_ascii_case("localhost") && !self.address.ip().is_multicast(),
        }
    }

    fn is_token(&self, token: &str) -> bool {
        token.as_bytes().ct_eq(self.token.as_bytes()).into()
    }

    fn cookie_name(&self) -> String {
        // Cookies are the same for all ports of a host.
        format!("stackwalk-{}", self.address.port())
    }

    /// Whether a request has the token, and whether that is in its query.
    fn token_of(&self, uri: &Uri, headers: &HeaderMap) -> Option<bool> {
        let in_query = uri
            .query()
            .into_iter()
            .flat_map(|query| query.split('&'))
            .filter_map(|pair| pair.strip_prefix("token="))
            .any(|token| self.is_token(token));
        if in_query {
            return Some(true);
        }
        let bearer = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let name = self.cookie_name();
        let mut cookies = headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .filter_map(|cookie| cookie.trim().strip_prefix(&name)?.strip_prefix('='));
        let found = bearer.is_some_and(|token| self.is_token(token))
            || cookies.any(|token| self.is_token(token));
        found.then_some(false)
    }

    /// Why a request is refused.
    fn refusal(&self, uri: &Uri, headers: &HeaderMap) -> Option<(StatusCode, &'static str)> {
        // A second one, or another in the request line, may be the one that a proxy went by.
        let mut hosts = { headers.get_all(header::HOST).iter() }
            .map(|host| host.to_str().unwrap_or_default())
            .chain(uri.authority().map(Authority::as_str))
            .peekable();
        if hosts.peek().is_none() || !hosts.all(|host| self.is_here(host)) {
            return Some((
                StatusCode::FORBIDDEN,
                "stackwalk does not listen under this name: use the IP address and port that it printed",
            ));
        }
        if let Some(origin) = headers.get(header::ORIGIN) {
            let here = origin
                .to_str()
                .ok()
                .and_then(|origin| origin.strip_prefix("http://"));
            if !here.is_some_and(|here| self.is_here(here)) {
                return Some((StatusCode::FORBIDDEN, "other sites may not ask"));
            }
        }
        if uri
            .path_and_query()
            .is_some_and(|uri| uri.as_str().len() > MAX_URI)
        {
            return Some((StatusCode::URI_TOO_LONG, "the address is too long"));
        }
        let has_token = self.token_of(uri, headers).is_some();
        let room = if has_token {
            &self.known
        } else {
            &self.strangers
        };
        if !room.take() {
            return Some((
                StatusCode::TOO_MANY_REQUESTS,
                "too many requests: ask again in a second",
            ));
        }
        if !has_token {
            return Some((
                StatusCode::UNAUTHORIZED,
                "the token is missing or wrong: open the URL that `stackwalk live` printed, or send \
                 `Authorization: Bearer TOKEN`",
            ));
        }
        None
    }
}

/// Lets a request through, or refuses it; and says in every answer what a browser may do with it.
pub(super) async fn check(
    State(access): State<Arc<Access>>,
    request: Request<Body>,
    next: Next,
) -> Response {
    let (uri, headers) = (request.uri(), request.headers());
    let in_query = access.token_of(uri, headers) == Some(true);
    let mut response = match access.refusal(uri, headers) {
        Some((status, why)) => {
            let mut response = refuse(status, why);
            // So that who floods it has to connect anew for each answer.
            response
                .headers_mut()
                .extend([fixed(header::CONNECTION, "close")]);
            response
        }
        None => {
            if let Some(connection) = request.extensions().get::<Known>() {
                connection.set();
            }
            let mut response = next.run(request).await.into_response();
            let cookie = format!(
                "{}={}; Path=/; HttpOnly; SameSite=Strict",
                access.cookie_name(),
                access.token
            );
            if in_query && let Ok(cookie) = HeaderValue::from_str(&cookie) {
                response.headers_mut().insert(header::SET_COOKIE, cookie);
            }
            response
        }
    };
    response.headers_mut().extend([
        fixed(
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
             img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
             require-trusted-types-for 'script'; trusted-types 'none'",
        ),
        fixed(header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        fixed(header::REFERRER_POLICY, "no-referrer"),
        fixed(header::CACHE_CONTROL, "no-store"),
        fixed(
            axum::http::HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ]);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(address: &str) -> Access {
        Access::new(address.parse().unwrap(), "secret".to_owned())
    }

    fn refused(access: &Access, uri: &str, headers: &[(&str, &str)]) -> Option<u16> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: axum::http::HeaderName = name.parse().unwrap();
            map.append(name, value.parse().unwrap());
        }
        let refusal = access.refusal(&uri.parse().unwrap(), &map);
        refusal.map(|(status, _)| status.as_u16())
    }

    #[test]
    fn the_token_comes_in_three_ways() {
        let access = access("127.0.0.1:7717");
        let host = ("host", "127.0.0.1:7717");
        assert_eq!(refused(&access, "/?token=secret", &[host]), None);
        assert_eq!(refused(&access, "/?a=b&token=secret", &[host]), None);
        let bearer = ("authorization", "Bearer secret");
        assert_eq!(refused(&access, "/", &[host, bearer]), None);
        let cookie = ("cookie", "other=1; stackwalk-7717=secret");
        assert_eq!(refused(&access, "/", &[host, cookie]), None);

        for (uri, header) in [
            ("/", ("accept", "x")),
            ("/?token=secre", ("accept", "x")),
            ("/?token=secrets", ("accept", "x")),
            ("/?token=", ("cookie", "stackwalk-7717=")),
            ("/", ("cookie", "stackwalk-7718=secret")),
            ("/", ("authorization", "Basic secret")),
        ] {
            assert_eq!(
                refused(&access, uri, &[host, header]),
                Some(401),
                "{uri} {header:?}"
            );
        }
    }

    #[test]
    fn another_name_for_this_machine_is_refused() {
        let access = access("127.0.0.1:7717");
        let uri = "/?token=secret";
        for host in ["127.0.0.1:7717", "localhost:7717", "LOCALHOST:7717"] {
            assert_eq!(refused(&access, uri, &[("host", host)]), None, "{host}");
        }
        for host in [
            "evil.example:7717",
            "127.0.0.1",
            "127.0.0.1:7718",
            "127.0.0.2:7717",
            "localhost.evil.example:7717",
            "[::1]:7717",
            "",
        ] {
            assert_eq!(
                refused(&access, uri, &[("host", host)]),
                Some(403),
                "{host}"
            );
        }
        assert_eq!(refused(&access, uri, &[]), Some(403));
        let (here, elsewhere) = (("host", "127.0.0.1:7717"), ("host", "evil.example:7717"));
        assert_eq!(refused(&access, uri, &[here, elsewhere]), Some(403));
        let absolute = "http://evil.example:7717/?token=secret";
        assert_eq!(refused(&access, absolute, &[here]), Some(403));
        let absolute = "http://127.0.0.1:7717/?token=secret";
        assert_eq!(refused(&access, absolute, &[here]), None);
    }

    #[test]
    fn other_sites_are_refused() {
        let access = access("[::1]:7717");
        let host = ("host", "[::1]:7717");
        let uri = "/?token=secret";
        let with = |origin| refused(&access, uri, &[host, ("origin", origin)]);
        assert_eq!(with("http://[::1]:7717"), None);
        for origin in [
            "http://evil.example",
            "null",
            "https://[::1]:7717",
            "http://[::1]:1",
        ] {
            assert_eq!(with(origin), Some(403), "{origin}");
        }
    }

    #[test]
    fn who_asks_too_often_is_refused() {
        let access = access("127.0.0.1:80");
        let answers = (0..(BURST as usize) * 2)
            .map(|_| refused(&access, "/?token=secret", &[("host", "127.0.0.1")]));
        let refused = answers.filter(|answer| *answer == Some(429)).count();
        assert!(refused > 100, "{refused}");
    }

    #[test]
    fn who_has_no_token_cannot_use_up_the_room_of_who_has() {
        let access = access("127.0.0.1:80");
        let host = ("host", "127.0.0.1");
        let asked = (0..(BURST as usize) * 3).map(|_| refused(&access, "/", &[host]));
        assert!(asked.into_iter().any(|answer| answer == Some(429)));
        assert_eq!(refused(&access, "/?token=secret", &[host]), None);
    }

    #[test]
    fn tokens_are_long_and_differ() {
        let [a, b] = [new_token().unwrap(), new_token().unwrap()];
        assert_eq!(a.len(), TOKEN_BYTES / 3 * 4);
        assert_ne!(a, b);
    }
}
