//! Push pipeline, the same for every face: who calls, may they, how much may leave, to which
//! device; then the fair queue and the workers; at the end one event for all sinks.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use bytes::Bytes;
use dispatch_stream::Job;
use http_edge::Peer;
use push_domain::{DeviceId, DeviceToken, FailReason, JobId, Notification, TenantId, Timestamp, Verdict};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::Gateway;
use crate::admission::{Caller, RequestOrigin};
use crate::credential::PresentedCredential;
use crate::event::{Answered, Label, Refused, Sink};
use crate::face::{Draft, Face};
use crate::fair::FairQueue;
use crate::refusal::Refusal;

/// Push pipeline of one serving thread.
pub(crate) struct Pipeline {
    gateway: Arc<Gateway>,
    queue: Arc<FairQueue>,
    sinks: Vec<Arc<dyn Sink>>,
    tasks: TaskTracker,
}

/// Admitted push, with its metric label.
struct Admitted {
    notification: Arc<Notification>,
    label: Label,
    /// After which it must not be sent, whatever time we would take.
    deadline: Option<Timestamp>,
}

/// Who sent a request, or why they may not; and what they sent.
pub(crate) struct Admission {
    caller: Result<Caller, Refusal>,
    body: Body,
}

impl Admission {
    /// Reads the body. That of a caller who is refused is read too, and not kept: an answer over unread bytes would cost the
    /// connection, and the next push on it.
    async fn caller_and_body(self) -> Result<(Caller, Bytes), Refusal> {
        match self.caller {
            Ok(caller) => Ok((caller, http_edge::read(self.body).await?)),
            Err(refusal) => {
                http_edge::discard(self.body).await?;
                Err(refusal)
            }
        }
    }
}

impl Pipeline {
    pub(crate) fn new(
        gateway: Arc<Gateway>,
        queue: Arc<FairQueue>,
        sinks: Vec<Arc<dyn Sink>>,
        tasks: TaskTracker,
    ) -> Self {
        Self { gateway, queue, sinks, tasks }
    }

    pub(crate) fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// Takes one push through. `Err` is a refusal without asking a provider; the sinks hear of both.
    ///
    /// Cancel safe: a push that was handed over is settled, counted and logged also when its caller has left.
    pub(crate) async fn push<F: Face>(
        self: &Arc<Self>,
        face: &F,
        admission: Admission,
        id: JobId,
        started: Instant,
    ) -> Result<(Answered, Caller), Refusal> {
        let pushed = async {
            let (caller, body) = admission.caller_and_body().await?;
            let tenant = caller.tenant;
            caller.take_rate().await.map_err(|reason| Refusal::plain(reason).of(tenant))?;
            let admitted = self.admitted(face, &caller, id, &body).map_err(|refusal| refusal.of(tenant))?;
            drop(body);
            let under_way = caller.enter().map_err(|reason| {
                Refusal::because(reason, "more pushes at once than the licence allows").of(tenant)
            })?;
            let (pipeline, weight, grace) = (Arc::clone(self), caller.weight, caller.grace);
            let settled = self.tasks.spawn(async move {
                let answered = pipeline.settle(admitted, weight, grace, started).await;
                drop(under_way);
                answered
            });
            let answered = settled.await.map_err(|_| Refusal::plain(FailReason::Internal))?;
            Ok((answered, caller))
        };
        let pushed = pushed.await;
        if let Err(refusal) = &pushed {
            self.emit_refused(id, refusal);
        }
        pushed
    }

    /// Takes a request that is no push: says who calls, and reads the body.
    pub(crate) async fn receipt(&self, admission: Admission) -> Result<(Caller, Bytes), Refusal> {
        let (caller, body) = admission.caller_and_body().await?;
        self.gateway.authenticator.admit_receipt(&caller).map_err(Refusal::plain)?;
        Ok((caller, body))
    }

    /// Tells the sinks of a receipt that is the first of its id.
    pub(crate) fn acknowledged(&self, tenant: TenantId) {
        self.sinks.iter().for_each(|sink| sink.acknowledged(tenant));
    }

    fn emit_refused(&self, id: JobId, refusal: &Refusal) {
        let event = Refused { id, tenant: refusal.tenant, reason: refusal.reason };
        self.sinks.iter().for_each(|sink| sink.refused(&event));
    }

    /// Says who calls, and whether they may.
    pub(crate) fn admission(&self, request: Request) -> Admission {
        let credential = request.extensions().get::<PresentedCredential>();
        let peer = request.extensions().get::<Peer>().copied();
        let is_global = self.gateway.authenticator.regions().is_global(&request);
        let (key, headers) = (credential.map(|it| &it.0), request.headers());
        let origin = RequestOrigin { key, peer, headers, is_global };
        // Not a part of any future: a request in each of them would be moved, with all of them, for every push.
        Admission { caller: self.gateway.authenticator.admit(&origin), body: request.into_body() }
    }

    /// Reads the push, checks it in the order in which callers are told what is wrong, and makes the request for its provider.
    fn admitted<F: Face>(
        &self,
        face: &F,
        caller: &Caller,
        id: JobId,
        body: &[u8],
    ) -> Result<Admitted, Refusal> {
        let gateway = &*self.gateway;
        let draft = face.read(body)?;
        gateway.authenticator.check(caller, draft.server())?;
        let deadline = draft.deadline();
        // Not less than is promised: what ends for want of time is then our fault, and no caller makes the service look slow, to
        // itself and to others, by pushes that nobody could deliver.
        let promised = gateway.ledger.objectives().in_time(draft.kind().class());
        if deadline.is_some_and(|deadline| deadline < gateway.clock.now().plus(promised)) {
            let sentence = format!("`deadline` has to leave {} ms at least", promised.as_millis());
            return Err(Refusal::because(FailReason::BadRequest, sentence));
        }
        let draft = draft.apply_privacy(caller.privacy).map_err(Refusal::plain)?;
        let Some(app) = gateway.apps.find(caller.tenant, draft.app()) else {
            return Err(draft.no_such_app());
        };
        let token = DeviceToken::parse(app.provider, draft.device().to_owned())
            .map_err(|why| Refusal::because(FailReason::BadDeviceToken, why))?;
        let device = caller.device_key.device_id(&app.id, &token);
        if !gateway.devices.check(device_hash(&device)) {
            let sentence = "more pushes to one device than Apple and Google take";
            return Err(Refusal::because(FailReason::RateLimited, sentence));
        }
        let request = face.request(&draft, &app, token, id, gateway.clock.now()).map_err(Refusal::plain)?;
        request.check().map_err(|_| Refusal::plain(FailReason::PayloadTooLarge))?;
        let (kind, label) = (draft.kind(), draft.label());
        let notification = Notification { id, tenant: caller.tenant, app, device, kind, request };
        Ok(Admitted { notification: Arc::new(notification), label, deadline })
    }

    /// Waits for the verdict, and tells the sinks, whether or not the caller is still there.
    async fn settle(
        &self,
        admitted: Admitted,
        weight: u32,
        grace: Option<Timestamp>,
        started: Instant,
    ) -> Answered {
        let Admitted { notification, label, deadline } = admitted;
        let budget = started + self.gateway.config.budget(notification.kind);
        let now = self.gateway.clock.now();
        let left = deadline.map(|it| Duration::from_millis(it.millis().saturating_sub(now.millis())));
        let deadline = left.map_or(budget, |left| budget.min(Instant::now() + left));
        let job = Job { notification: Arc::clone(&notification), accepted_at: started, deadline };
        let verdict: Verdict = self.queue.submit(job, weight).await;
        let answered = Answered {
            id: notification.id,
            tenant: notification.tenant,
            app: Arc::clone(&notification.app),
            device: notification.device,
            kind: notification.kind,
            label,
            verdict,
            took: started.elapsed(),
            grace,
        };
        self.sinks.iter().for_each(|sink| sink.answered(&answered));
        answered
    }
}

/// Devices are told apart by 64 bits of their keyed hash.
fn device_hash(device: &DeviceId) -> u64 {
    device.as_bytes().iter().take(8).fold(0, |key, byte| key << 8 | u64::from(*byte))
}
