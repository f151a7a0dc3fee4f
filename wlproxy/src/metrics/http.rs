//! As much of HTTP/1 as it takes to be scraped (RFC 9112): one GET, one answer, and the connection is closed.

/// The answer to a request, or `None` if its headers aren't whole yet. Any path of a GET is answered with `body`.
pub(super) fn answer(
    request: &[u8],
    content_type: &str,
    body: impl FnOnce() -> String,
) -> Option<Vec<u8>> {
    let end = end_of_headers(request)?;
    let first = request[..end].split(|&byte| byte == b'\n').next().unwrap_or_default();
    let words: Vec<&[u8]> = first.trim_ascii_end().split(|&byte| byte == b' ').collect();
    Some(match words[..] {
        [b"GET", _, version] if version.starts_with(b"HTTP/1.") => {
            response("200 OK", &format!("Content-Type: {content_type}\r\n"), &body())
        }
        [_, _, version] if version.starts_with(b"HTTP/1.") => {
            response("405 Method Not Allowed", "Allow: GET\r\n", "only GET is answered\n")
        }
        _ => response("400 Bad Request", "", "this is no HTTP/1 request\n"),
    })
}

/// Where the headers end: at an empty line.
fn end_of_headers(request: &[u8]) -> Option<usize> {
    let ends = |end: &[u8]| request.windows(end.len()).position(|window| window == end);
    ends(b"\n\r\n").into_iter().chain(ends(b"\n\n")).min()
}

fn response(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(request: &str) -> Option<String> {
        let answer = answer(request.as_bytes(), "text/x", || "body".to_owned())?;
        Some(String::from_utf8(answer).unwrap())
    }

    #[test]
    fn a_get_is_answered_when_its_headers_are_whole() {
        let request = "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n";
        for end in 0..request.len() {
            assert_eq!(answered(&request[..end]), None, "{end} bytes");
        }
        let expected = "HTTP/1.1 200 OK\r\nContent-Type: text/x\r\nContent-Length: 4\r\n\
                        Connection: close\r\n\r\nbody";
        assert_eq!(answered(request).unwrap(), expected);
        assert_eq!(answered("GET / HTTP/1.0\n\n").unwrap(), expected);
    }

    #[test]
    fn nothing_else_is() {
        let status = |request: &str| answered(request).unwrap()[9..12].to_owned();
        assert_eq!(status("POST / HTTP/1.1\r\n\r\n"), "405");
        for request in
            ["\n\n", "\r\n\r\n", "GET /\r\n\r\n", "GET / HTTP/2\n\n", "GET  / HTTP/1.1\n\n"]
        {
            assert_eq!(status(request), "400", "{request:?}");
        }
    }
}
