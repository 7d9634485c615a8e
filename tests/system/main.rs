//! The whole system: the real binary, a real simulator, real sockets.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::float_cmp, reason = "counters hold whole numbers")]
#![expect(clippy::too_many_lines, reason = "a table is as long as it is")]

mod acks;
mod apps;
mod architecture;
mod binary;
mod canary;
mod connections;
mod console;
mod credentials;
mod edge;
mod faults;
mod first_run;
mod golden;
mod harness;
mod hosted;
mod hostile;
mod http;
mod load;
mod notifications;
mod operators;
mod outbound;
mod pauses;
mod provider_answers;
mod raw_http;
mod self_hosting;
mod service_level;
mod shutdown;
mod tenant_isolation;
mod tls;
