//! Provider faults of `make faults`: how each begins and ends, in the simulator's words.

use std::time::Duration;

use serde_json::{Value, json};

use system_tests::process::Process;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Provider {
    Apple,
    Google,
}

impl Provider {
    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Apple => Self::Google,
            Self::Google => Self::Apple,
        }
    }

    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Apple => "Apple",
            Self::Google => "Google",
        }
    }

    pub(crate) const fn platform(self) -> &'static str {
        match self {
            Self::Apple => "apple_rn-v2",
            Self::Google => "android_rn-v2",
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Apple => "apns",
            Self::Google => "fcm",
        }
    }
}

/// Kind of a fault.
pub(crate) enum Kind {
    /// Answers of this kind to so many of a hundred pushes: to Apple, to Google.
    Answers(u8, &'static str, &'static str),
    /// A fault to all open connections, once or again and again.
    ConnectionFault { fault: &'static str, repeats: bool },
    /// Nobody gets in any more, and who is in is put out.
    Accepts(&'static str),
    /// Other habits, and those that end them.
    Profile(&'static str, &'static str),
    /// All access tokens are revoked.
    Revoke,
}

pub(crate) struct Fault {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// A push may have arrived although its answer was lost.
    pub(crate) is_ambiguous: bool,
    /// Devices are called dead.
    pub(crate) removes: bool,
    /// How long it goes on.
    pub(crate) time: Duration,
    /// So many bytes are added to each push.
    pub(crate) padding: usize,
}

const fn fault(name: &'static str, kind: Kind) -> Fault {
    Fault { name, kind, is_ambiguous: false, removes: false, time: Duration::from_secs(3), padding: 0 }
}

const fn ambiguous(name: &'static str, kind: Kind) -> Fault {
    Fault { is_ambiguous: true, ..fault(name, kind) }
}

use Kind::{Accepts, Answers, ConnectionFault, Profile, Revoke};

pub(crate) const FAULTS: [Fault; 30] = [
    ambiguous("connections refused", Accepts("shut")),
    ambiguous("new connections never answered", Accepts("dark")),
    ambiguous("certificate expired", Accepts("expired")),
    ambiguous("open connections fall silent", ConnectionFault { fault: r#""black_hole""#, repeats: false }),
    ambiguous("open connections freeze", ConnectionFault { fault: r#""freeze""#, repeats: false }),
    ambiguous("connections cut", ConnectionFault { fault: r#""close""#, repeats: true }),
    ambiguous("open requests reset", ConnectionFault { fault: r#""reset""#, repeats: true }),
    fault("GOAWAY", ConnectionFault { fault: r#""go_away""#, repeats: true }),
    fault("GOAWAY in plain text", ConnectionFault { fault: r#""go_away_text""#, repeats: true }),
    fault(
        "GOAWAY with a low last stream",
        ConnectionFault { fault: r#""go_away_unprocessed""#, repeats: true },
    ),
    fault("streams lowered to 1", ConnectionFault { fault: r#""streams","streams":1"#, repeats: true }),
    fault(
        "20 ms of round-trip time more",
        Profile(r#""rtt_ms":20,"jitter_ms":10"#, r#""rtt_ms":0,"jitter_ms":0"#),
    ),
    fault("GOAWAY after every 20 requests", Profile(r#""max_requests":20"#, r#""max_requests":0"#)),
    fault(
        "30 s until an answer",
        Answers(100, r#"{"delay_ms":30000,"status":503}"#, r#"{"delay_ms":30000,"status":503}"#),
    ),
    fault(
        "never an answer, 20 %",
        Answers(20, r#"{"action":"hang","status":503}"#, r#"{"action":"hang","status":503}"#),
    ),
    // Longer than any connection waits for an answer that nobody needs any more, and with pushes of which few fit into a
    // connection's window: what is not given back adds up until there is no place left.
    Fault {
        time: Duration::from_secs(75),
        padding: 1000,
        ..fault(
            "never an answer, 20 %, for 75 s, 1 kB",
            Answers(20, r#"{"action":"hang","status":503}"#, r#"{"action":"hang","status":503}"#),
        )
    },
    fault(
        "500",
        Answers(
            100,
            r#"{"status":500,"reason":"InternalServerError"}"#,
            r#"{"status":500,"reason":"INTERNAL"}"#,
        ),
    ),
    fault(
        "503",
        Answers(
            100,
            r#"{"status":503,"reason":"ServiceUnavailable"}"#,
            r#"{"status":503,"reason":"UNAVAILABLE"}"#,
        ),
    ),
    fault(
        "503, 5 %",
        Answers(
            5,
            r#"{"status":503,"reason":"ServiceUnavailable"}"#,
            r#"{"status":503,"reason":"UNAVAILABLE"}"#,
        ),
    ),
    fault(
        "503 with Retry-After",
        Answers(
            100,
            r#"{"status":503,"reason":"ServiceUnavailable","retry_after":"1"}"#,
            r#"{"status":503,"reason":"UNAVAILABLE","retry_after":"1"}"#,
        ),
    ),
    ambiguous(
        "503 but delivered, 5 %",
        Answers(
            5,
            r#"{"status":503,"reason":"ServiceUnavailable","delivered":true}"#,
            r#"{"status":503,"reason":"UNAVAILABLE","delivered":true}"#,
        ),
    ),
    fault(
        "429 by device, 20 %",
        Answers(
            20,
            r#"{"status":429,"reason":"TooManyRequests","retry_after":"1"}"#,
            r#"{"status":429,"reason":"QUOTA_EXCEEDED","retry_after":"1"}"#,
        ),
    ),
    fault(
        "429 for the whole project",
        Answers(100, "", r#"{"status":429,"reason":"RATE_LIMIT_EXCEEDED","retry_after":"1"}"#),
    ),
    fault("streams refused, 5 %", Answers(5, r#"{"action":"refuse"}"#, r#"{"action":"refuse"}"#)),
    ambiguous("answers break off, 5 %", Answers(5, r#"{"action":"half"}"#, r#"{"action":"half"}"#)),
    fault(
        "HTML instead of JSON",
        Answers(100, r#"{"status":502,"body":"<html>"}"#, r#"{"status":502,"body":"<html>"}"#),
    ),
    fault(
        "credentials refused",
        Answers(
            100,
            r#"{"status":403,"reason":"InvalidProviderToken"}"#,
            r#"{"status":403,"reason":"IAM_PERMISSION_DENIED"}"#,
        ),
    ),
    fault(
        "provider token expired, connection wedged",
        Answers(2, r#"{"status":403,"reason":"ExpiredProviderToken"}"#, ""),
    ),
    fault("access tokens revoked", Revoke),
    Fault {
        removes: true,
        ..fault(
            "dead devices, 20 %",
            Answers(
                20,
                r#"{"status":410,"reason":"Unregistered"}"#,
                r#"{"status":404,"reason":"UNREGISTERED"}"#,
            ),
        )
    },
];

impl Fault {
    /// Says whether a provider has this fault at all.
    pub(crate) const fn hits(&self, provider: Provider) -> bool {
        match (&self.kind, provider) {
            (Answers(_, answer, _), Provider::Apple) | (Answers(_, _, answer), Provider::Google) => {
                !answer.is_empty()
            }
            (Revoke, provider) => matches!(provider, Provider::Google),
            (ConnectionFault { .. } | Accepts(_) | Profile(..), _) => true,
        }
    }

    /// Says whether it shows at once, in every answer or every connection: then the provider is out of order.
    pub(crate) fn opens_the_breaker(&self) -> bool {
        match self.kind {
            Answers(percent, apple, google) => {
                percent == 100 && ![apple, google].iter().any(|it| it.contains("delay_ms"))
            }
            Accepts(door) => door != "dark",
            ConnectionFault { .. } | Profile(..) | Revoke => false,
        }
    }

    /// Says whether most pushes are answered well, each by chance: then the provider is in order.
    pub(crate) const fn leaves_the_breaker(&self) -> bool {
        matches!(self.kind, Answers(0..=20, ..))
    }

    /// Says whether it has to be begun again and again.
    pub(crate) const fn repeats(&self) -> bool {
        matches!(self.kind, ConnectionFault { repeats: true, .. } | Revoke)
    }

    pub(crate) fn begin(&self, simulator: &Process, provider: Provider) -> anyhow::Result<()> {
        let name = provider.name();
        match self.kind {
            Answers(percent, apple, google) => {
                let answer = if provider == Provider::Apple { apple } else { google };
                script(simulator, name, percent, &serde_json::from_str(answer)?)
            }
            ConnectionFault { fault, .. } => inject_fault(simulator, name, fault),
            Accepts(door) => {
                set_profile(simulator, provider, &format!(r#""door":"{door}""#))?;
                inject_fault(simulator, name, r#""close""#)
            }
            Profile(begin, _) => set_profile(simulator, provider, begin),
            Revoke => simulator.ask("POST", "/sim/revoke-access-tokens", "").map(drop),
        }
    }

    pub(crate) fn end(&self, simulator: &Process, provider: Provider) -> anyhow::Result<()> {
        let name = provider.name();
        match self.kind {
            Answers(..) => script(simulator, name, 0, &json!({})),
            ConnectionFault { .. } if self.name == "streams lowered to 1" => {
                inject_fault(simulator, name, r#""streams","streams":100"#)
            }
            ConnectionFault { .. } | Revoke => Ok(()),
            Accepts(_) => set_profile(simulator, provider, r#""door":"open""#),
            Profile(_, end) => set_profile(simulator, provider, end),
        }
    }
}

/// Every answer is like this from now on, or as usual if the answer is empty.
fn script(simulator: &Process, provider: &str, percent: u8, answer: &Value) -> anyhow::Result<()> {
    let script = json!({ "token": "*", "provider": provider, "answers": [answer], "repeat": true, "percent": percent });
    simulator.ask("POST", "/sim/script", &script.to_string()).map(drop)
}

fn inject_fault(simulator: &Process, provider: &str, fault: &str) -> anyhow::Result<()> {
    simulator.ask("POST", "/sim/strike", &format!(r#"{{"provider":"{provider}","blow":{fault}}}"#)).map(drop)
}

/// Changes habits of a provider.
pub(crate) fn set_profile(simulator: &Process, provider: Provider, habits: &str) -> anyhow::Result<()> {
    let name = provider.name();
    simulator.ask("POST", "/sim/conduct", &format!(r#"{{"provider":"{name}",{habits}}}"#)).map(drop)
}
