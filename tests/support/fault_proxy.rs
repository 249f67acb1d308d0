//! An HTTP proxy before a real server that does to answers what networks and servers do at their worst, as a test
//! chooses, and keeps a list of all requests.
//!
//! It understands as much of HTTP/1.1 as object stores and their clients use: bodies with a length or in chunks, one
//! request after the other on a connection. Nothing is encrypted.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use super::random::Random;

/// What is done to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The answer comes later.
    Delay(Duration),
    /// The server is not asked, and this status is the answer.
    Status(u16),
    /// The server does what it was asked, and 500 is the answer.
    LostAnswer,
    /// The connection is reset before the server is asked.
    Reset,
    /// The connection is reset in the middle of the answer.
    ResetInBody,
    /// The connection ends, in good order, in the middle of the answer.
    EndInBody,
    /// The answer stops in its middle for this long, then the connection ends.
    StallInBody(Duration),
    /// The answer is shorter than what was asked for, and says so itself.
    ShortBody,
    /// Status 200, with a document that tells an error.
    ErrorDocument,
    /// Of a listing: status 200, and nothing is there. Of anything else nothing.
    EmptyListing,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Counted from 1.
    pub number: u64,
    pub method: String,
    /// Path and query.
    pub target: String,
    pub fault: Option<Fault>,
}

impl Asked {
    pub fn is_listing(&self) -> bool {
        self.method == "GET" && self.target.contains("list-type=")
    }

    pub fn is_change(&self) -> bool {
        matches!(self.method.as_str(), "PUT" | "POST" | "DELETE")
    }
}

type Choose = Box<dyn Fn(&Asked) -> Option<Fault> + Send + Sync>;

struct State {
    /// `HOST:PORT` of the server.
    server: String,
    choose: RwLock<Choose>,
    asked: Mutex<Vec<Asked>>,
    is_over: AtomicBool,
}

/// A proxy; it ends when it is dropped.
pub struct FaultProxy {
    pub endpoint: String,
    address: String,
    state: Arc<State>,
}

impl FaultProxy {
    /// A proxy before the server at `endpoint`, an URL; it does no harm yet.
    pub fn before(endpoint: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = endpoint
            .strip_prefix("http://")
            .expect("it is not encrypted");
        let state = Arc::new(State {
            server: server.split('/').next().unwrap().to_owned(),
            choose: RwLock::new(Box::new(|_| None)),
            asked: Mutex::default(),
            is_over: AtomicBool::new(false),
        });
        let serving = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if serving.is_over.load(Ordering::SeqCst) {
                    return;
                }
                let state = Arc::clone(&serving);
                std::thread::spawn(move || {
                    // However it ends, the client hears of it: the connection is closed, and nobody else has it.
                    let _over = serve(&state, &client);
                });
            }
        });
        Self {
            endpoint: format!("http://{address}"),
            address,
            state,
        }
    }

    /// Does from now on what `choose` says.
    pub fn set(&self, choose: impl Fn(&Asked) -> Option<Fault> + Send + Sync + 'static) {
        *self.state.choose.write().unwrap() = Box::new(choose);
    }

    /// Does no harm from now on.
    pub fn heal(&self) {
        self.set(|_| None);
    }

    /// All requests since the last call.
    pub fn take(&self) -> Vec<Asked> {
        std::mem::take(&mut self.state.asked.lock().unwrap())
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for connections, which then ends.
        let _woken = TcpStream::connect(&self.address);
    }
}

/// Each kind of fault alike, for one request in ten, by the numbers of requests and `seed`.
pub fn one_in_ten(seed: u64, stall: Duration) -> impl Fn(&Asked) -> Option<Fault> + Send + Sync {
    move |asked| {
        let mut random = Random::new(seed.wrapping_add(asked.number.wrapping_mul(0x1_0001)));
        if !random.once_in(10) {
            return None;
        }
        let delay = Fault::Delay(Duration::from_millis(300));
        let both = [delay, Fault::Status(500), Fault::Status(503), Fault::Reset];
        let of_changes = [Fault::LostAnswer];
        let of_reads = [
            Fault::ResetInBody,
            Fault::EndInBody,
            Fault::StallInBody(stall),
            Fault::ShortBody,
            Fault::ErrorDocument,
        ];
        let more = match asked.is_change() {
            true => &of_changes[..],
            false => &of_reads[..],
        };
        let listing = [Fault::EmptyListing];
        let listing = if asked.is_listing() {
            &listing[..]
        } else {
            &[]
        };
        let all = [&both[..], more, listing].concat();
        Some(*random.pick(&all))
    }
}

/// A request or an answer.
struct Message {
    /// The first line and the headers, without the empty line.
    head: Vec<String>,
    body: Vec<u8>,
}

impl Message {
    /// The next message on a connection; None where it ends. `has_body` tells from the head whether there is one.
    fn read(
        from: &mut impl BufRead,
        has_body: impl Fn(&str) -> bool,
    ) -> std::io::Result<Option<Self>> {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if from.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            match line.trim_end() {
                "" if head.is_empty() => {}
                "" => break,
                text => head.push(text.to_owned()),
            }
        }
        let mut message = Self {
            head,
            body: Vec::new(),
        };
        if has_body(&message.head[0]) {
            message.read_body(from)?;
        }
        Ok(Some(message))
    }

    fn read_body(&mut self, from: &mut impl BufRead) -> std::io::Result<()> {
        let is_chunked = self
            .header("transfer-encoding")
            .is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"));
        if is_chunked {
            loop {
                let mut line = String::new();
                from.read_line(&mut line)?;
                let length = usize::from_str_radix(line.trim(), 16)
                    .map_err(|_| std::io::Error::other("no length of a chunk"))?;
                let start = self.body.len();
                self.body.resize(start + length, 0);
                from.read_exact(&mut self.body[start..])?;
                from.read_line(&mut line)?;
                if length == 0 {
                    return Ok(());
                }
            }
        }
        let length = self.header("content-length").unwrap_or("0").trim();
        self.body = vec![0; length.parse().map_err(std::io::Error::other)?];
        from.read_exact(&mut self.body)
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.iter().skip(1).find_map(|line| {
            let (own, value) = line.split_once(':')?;
            own.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    /// The head as it is sent, its body said to be `length` bytes long.
    fn head_with(&self, length: usize) -> Vec<u8> {
        let mut text = String::new();
        for line in &self.head {
            let lower = line.to_ascii_lowercase();
            let is_framing =
                lower.starts_with("content-length:") || lower.starts_with("transfer-encoding:");
            if !is_framing {
                text.push_str(line);
                text.push_str("\r\n");
            }
        }
        text.push_str(&format!("content-length: {length}\r\n\r\n"));
        text.into_bytes()
    }

    fn answer(status: u16, content_type: &str, body: &str) -> Self {
        Self {
            head: vec![
                format!("HTTP/1.1 {status} Because"),
                format!("content-type: {content_type}"),
                "last-modified: Sat, 01 Jan 2000 00:00:00 GMT".to_owned(),
                "etag: \"0\"".to_owned(),
            ],
            body: body.as_bytes().to_vec(),
        }
    }
}

/// A connection to the server, made anew after it broke.
struct Server {
    stream: Option<BufReader<TcpStream>>,
}

impl Server {
    fn ask(&mut self, state: &State, request: &Message) -> std::io::Result<Message> {
        // The server may have closed a connection that was idle: a new one is tried before that is an error.
        for is_last in [false, true] {
            match self.try_ask(state, request) {
                Ok(answer) => return Ok(answer),
                Err(error) if is_last => return Err(error),
                Err(_) => self.stream = None,
            }
        }
        unreachable!("the last try returns")
    }

    fn try_ask(&mut self, state: &State, request: &Message) -> std::io::Result<Message> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => {
                let stream = TcpStream::connect(&state.server)?;
                stream.set_nodelay(true)?;
                none.insert(BufReader::new(stream))
            }
        };
        stream
            .get_mut()
            .write_all(&request.head_with(request.body.len()))?;
        stream.get_mut().write_all(&request.body)?;
        let is_head = request.head[0].starts_with("HEAD ");
        Message::read(stream, |status| {
            !is_head && !status.contains(" 204 ") && !status.contains(" 304 ")
        })?
        .ok_or_else(|| std::io::ErrorKind::UnexpectedEof.into())
    }
}

fn serve(state: &State, client: &TcpStream) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    let mut reading = BufReader::new(client);
    let mut server = Server { stream: None };
    while let Some(request) = Message::read(&mut reading, |_| true)? {
        let fault = note(state, &request);
        let is_head = request.head[0].starts_with("HEAD ");
        match fault {
            Some(Fault::Reset) => return reset(client),
            Some(Fault::Status(status)) => {
                let code = match status {
                    403 => "AccessDenied",
                    500 => "InternalError",
                    _ => "SlowDown",
                };
                let text = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code></Error>");
                let answer = Message::answer(status, "application/xml", &text);
                send(client, &answer, is_head)?;
            }
            Some(Fault::LostAnswer) => {
                server.ask(state, &request)?;
                send(client, &Message::answer(500, "text/plain", "lost"), is_head)?;
            }
            Some(Fault::ErrorDocument) => {
                let text = "<?xml version=\"1.0\"?><Error><Code>InternalError</Code><Message>We encountered an \
                            internal error. Please try again.</Message></Error>";
                send(
                    client,
                    &Message::answer(200, "application/xml", text),
                    is_head,
                )?;
            }
            Some(Fault::EmptyListing) => {
                let text = "<?xml version=\"1.0\"?><ListBucketResult><IsTruncated>false</IsTruncated>\
                            <KeyCount>0</KeyCount></ListBucketResult>";
                send(
                    client,
                    &Message::answer(200, "application/xml", text),
                    is_head,
                )?;
            }
            _ => {
                let answer = server.ask(state, &request)?;
                if !pass_on(client, answer, fault, is_head)? {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// Writes a request down, with what is done to it.
fn note(state: &State, request: &Message) -> Option<Fault> {
    let mut words = request.head[0].split(' ').map(str::to_owned);
    let mut list = state.asked.lock().unwrap();
    let mut asked = Asked {
        number: list.last().map_or(1, |last| last.number + 1),
        method: words.next().unwrap_or_default(),
        target: words.next().unwrap_or_default(),
        fault: None,
    };
    let choose = state.choose.read().unwrap();
    asked.fault =
        choose(&asked).filter(|fault| *fault != Fault::EmptyListing || asked.is_listing());
    list.push(asked.clone());
    asked.fault
}

/// Sends a whole answer.
fn send(mut client: &TcpStream, answer: &Message, is_head: bool) -> std::io::Result<()> {
    client.write_all(&answer.head_with(answer.body.len()))?;
    match is_head {
        true => Ok(()),
        false => client.write_all(&answer.body),
    }
}

/// Sends what is left of an answer by `fault`. False, if the connection is of no use afterwards.
fn pass_on(
    mut client: &TcpStream,
    mut answer: Message,
    fault: Option<Fault>,
    is_head: bool,
) -> std::io::Result<bool> {
    let half = answer.body.len() / 2;
    match fault {
        Some(Fault::Delay(pause)) => std::thread::sleep(pause),
        Some(Fault::ShortBody) if !is_head => answer.body.truncate(half),
        Some(Fault::ResetInBody | Fault::EndInBody | Fault::StallInBody(_)) => {
            client.write_all(&answer.head_with(answer.body.len()))?;
            if !is_head {
                client.write_all(&answer.body[..half])?;
            }
            match fault {
                Some(Fault::StallInBody(pause)) => std::thread::sleep(pause),
                Some(Fault::ResetInBody) => reset(client)?,
                _ => {}
            }
            return Ok(false);
        }
        _ => {}
    }
    // The length of a body that is not sent is the object's own.
    if is_head {
        let length = answer.header("content-length").unwrap_or("0").to_owned();
        client.write_all(&answer.head_with(length.parse().map_err(std::io::Error::other)?))?;
        return Ok(true);
    }
    send(client, &answer, false)?;
    Ok(true)
}

/// Ends a connection at once, telling the other side that it is reset.
fn reset(client: &TcpStream) -> std::io::Result<()> {
    rustix::net::sockopt::set_socket_linger(client, Some(Duration::ZERO))?;
    Ok(())
}
