//! Translations: every sentence of the console in English and Korean.

use http::HeaderMap;
use http::header::ACCEPT_LANGUAGE;

use crate::identity::cookie;
use crate::wire::AlertView;

pub(super) const COOKIE: &str = "hpns_language";

/// A language of the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Language {
    #[default]
    English,
    Korean,
}

impl Language {
    pub(super) const fn code(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Korean => "ko",
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::English => "English",
            Self::Korean => "한국어",
        }
    }

    pub(super) const fn other(self) -> Self {
        match self {
            Self::English => Self::Korean,
            Self::Korean => Self::English,
        }
    }

    pub(super) fn named(code: &str) -> Option<Self> {
        [Self::English, Self::Korean].into_iter().find(|language| language.code() == code)
    }

    /// The one that was chosen here, or the browser's first.
    pub(super) fn of_request(headers: &HeaderMap) -> Self {
        let chosen = cookie(headers, COOKIE).and_then(Self::named);
        let accepted = headers.get(ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let first = accepted.split([',', ';', '-']).next().unwrap_or_default().trim();
        chosen.or_else(|| Self::named(first)).unwrap_or_default()
    }

    /// Returns a sentence of the console in this language.
    pub(super) fn of(self, english: &'static str) -> &'static str {
        match self {
            Self::English => english,
            Self::Korean => KOREAN.iter().find(|(known, _)| *known == english).map_or(english, |(_, it)| it),
        }
    }

    /// Returns what a state or a policy is called; what has no name is shown as it is.
    pub(super) fn state(self, state: &str) -> &str {
        STATES.iter().find(|(known, ..)| *known == state).map_or(state, |(_, english, korean)| match self {
            Self::English => english,
            Self::Korean => korean,
        })
    }

    pub(super) fn hop(self, hop: &str) -> &str {
        self.state(hop)
    }

    /// Returns what a kind of alert is called.
    pub(super) fn alert(self, kind: &str) -> &str {
        self.state(kind)
    }

    /// Returns an alert's sentence.
    pub(super) fn sentence(self, alert: &AlertView) -> String {
        if self == Self::English {
            return alert.text.clone();
        }
        let mut numbers = alert.text.split(|it: char| !it.is_ascii_digit()).filter(|it| !it.is_empty());
        let template = SENTENCES.iter().find(|(kind, _)| *kind == alert.kind);
        let Some((_, template)) = template else { return alert.text.clone() };
        let mut sentence = String::new();
        for (at, part) in template.split("{}").enumerate() {
            if at > 0 {
                sentence.push_str(numbers.next().unwrap_or_default());
            }
            sentence.push_str(part);
        }
        sentence
    }
}

/// States, policies, hops and kinds of alerts: their name in the API, in English, in Korean.
const STATES: &[(&str, &str, &str)] = &[
    ("active", "active", "유효"),
    ("grace", "grace", "유예 중"),
    ("not_yet", "not yet valid", "시작 전"),
    ("terms_not_accepted", "terms not accepted", "약관 미동의"),
    ("suspended", "suspended", "정지됨"),
    ("expired", "expired", "만료됨"),
    ("live", "live", "사용 중"),
    ("revoked", "revoked", "폐기됨"),
    ("ended", "ended", "종료됨"),
    ("healthy", "healthy", "정상"),
    ("held", "held", "보류됨"),
    ("broken", "out of order", "장애"),
    ("no_credentials", "no credentials", "자격 증명 없음"),
    ("unknown", "unknown", "알 수 없음"),
    ("up", "up", "작동 중"),
    ("down", "down", "중단됨"),
    ("full", "full: what the server sends", "전체: 서버가 보낸 그대로"),
    ("generic", "generic: text and names replaced", "일반: 본문과 이름 대체"),
    ("id_only_strip", "ids only: the rest is taken out", "ID만: 나머지는 제거"),
    ("id_only_reject", "ids only: the rest is refused", "ID만: 나머지는 거부"),
    ("queue", "queue", "대기"),
    ("provider", "provider", "공급자"),
    ("total", "gateway in all", "게이트웨이 전체"),
    ("round_trip", "round trip", "왕복"),
    ("licence_expiring", "Licence ends soon", "라이선스 만료 임박"),
    ("licence_in_grace", "Licence in grace", "라이선스 유예 중"),
    ("credential_expiring", "Certificate ends soon", "인증서 만료 임박"),
    ("credential_missing", "Credentials cannot be used", "자격 증명 사용 불가"),
    ("app_held", "App held", "앱 보류됨"),
    ("provider_down", "Provider out of order", "공급자 장애"),
    ("removals", "Many dead devices", "죽은 기기 다수"),
    ("new_devices", "Many new devices", "새 기기 급증"),
    ("rights_changed", "Registry changed from outside", "레지스트리 외부 변경"),
    ("budget_burning", "Error budget burns", "오류 예산 급감"),
    ("tenant_budget_burning", "A tenant's error budget burns", "테넌트의 오류 예산 급감"),
];

/// Alerts' sentences in Korean; `{}` stands for a number of the English one, in order.
const SENTENCES: &[(&str, &str)] = &[
    ("licence_expiring", "라이선스가 {}일 후 끝납니다"),
    ("licence_in_grace", "라이선스가 만료되었으며, 유예 기간이 {}일 후 끝납니다"),
    ("credential_expiring", "인증서가 {}일 후 끝납니다"),
    ("credential_missing", "어느 워커도 이 앱의 자격 증명을 사용할 수 없습니다"),
    ("app_held", "공급자가 앱을 거부합니다: 자격 증명이나 설정을 확인하세요"),
    ("provider_down", "모든 워커에서 공급자가 응답하지 않습니다"),
    ("removals", "최근 몇 분간 기기의 {} %가 죽은 기기입니다"),
    ("new_devices", "오늘 새 기기 {}대, 지난 한 주 {}대"),
    ("rights_changed", "라이선스·키·토큰 {}건이 기록된 내용과 다릅니다. 해당 권한은 부여되지 않습니다"),
    ("budget_burning", "허용 속도의 {}배로 줄고 있습니다. 푸시 {}건 실패, 전체 {}건"),
    ("tenant_budget_burning", "허용 속도의 {}배로 줄고 있습니다. 푸시 {}건 실패, 전체 {}건"),
];

const KOREAN: &[(&str, &str)] = &[
    ("Service level", "서비스 수준"),
    ("The promise is kept.", "약속이 지켜지고 있습니다."),
    ("The promise is broken.", "약속이 깨졌습니다."),
    (
        "Nothing is promised: this plan has no service level.",
        "약속된 것이 없습니다: 이 요금제에는 서비스 수준이 없습니다.",
    ),
    ("Not delivered, by who answers for it:", "전달되지 않은 푸시, 책임별:"),
    ("Availability", "가용성"),
    ("Calls in time", "제때 전달된 통화"),
    ("Messages in time", "제때 전달된 메시지"),
    ("Error budget left", "남은 오류 예산"),
    ("Accepted", "접수됨"),
    ("Receipts of phones", "휴대폰 수신 확인"),
    ("promised", "약속"),
    ("Pushes by hour (UTC)", "시간별 푸시 (UTC)"),
    ("Pushes by day (UTC)", "일별 푸시 (UTC)"),
    ("From acceptance to the provider's answer", "접수부터 공급자 응답까지"),
    ("As a table", "표로 보기"),
    ("By class", "종류별"),
    ("Class", "종류"),
    ("Delivered", "전달됨"),
    ("Dead devices", "죽은 기기"),
    ("In time", "제때"),
    ("All", "전체"),
    ("Tenants of the last hours", "최근 몇 시간의 테넌트"),
    ("Not known", "알 수 없음"),
    (
        "A process was lost in these seconds, and what it had counted in them.",
        "이 시간에 프로세스가 사라져 그동안 센 것이 없어졌습니다.",
    ),
    ("All numbers by hour:", "시간별 모든 수치:"),
    ("Callers' mistakes", "호출자 실수"),
    ("Apple or Google", "Apple 또는 Google"),
    ("Our faults", "우리 책임"),
    ("Half of them within", "절반이 이내"),
    ("99 of 100 within", "100개 중 99개가 이내"),
    ("Calls", "통화"),
    ("Messages", "메시지"),
    ("Badges and clearing", "배지와 지우기"),
    ("About the tenant", "테넌트 정보"),
    ("Accepted by", "동의한 사람"),
    ("Accepted terms, version (empty: not yet)", "동의한 약관 버전 (비우면 아직)"),
    ("Accepted, last minutes", "최근 수락됨"),
    ("Actions", "작업"),
    ("Active devices", "활성 기기"),
    ("Admin token", "관리자 토큰"),
    ("Answers of the last minutes", "최근 응답"),
    ("App", "앱"),
    ("Apps", "앱"),
    (
        "A token begins with hpns_admin_. It is not kept in this browser.",
        "토큰은 hpns_admin_으로 시작합니다. 이 브라우저에 저장되지 않습니다.",
    ),
    ("Audit log", "감사 로그"),
    ("Back to the tenant", "테넌트로 돌아가기"),
    ("Bind", "연결"),
    ("Bound to", "연결된 서버"),
    ("Bundle id", "번들 ID"),
    ("Busiest tenants", "가장 바쁜 테넌트"),
    ("Change", "변경"),
    ("Change licence", "라이선스 변경"),
    ("Changed in the meantime", "그 사이에 변경됨"),
    ("Contact", "연락처"),
    ("Copy", "복사"),
    ("Create", "만들기"),
    ("Create, and go on to its licence", "만들고 라이선스로 이동"),
    ("Credentials", "자격 증명"),
    ("Days left", "남은 일수"),
    ("Days of grace", "유예 일수"),
    ("Dead devices, last minutes", "최근 죽은 기기"),
    ("Detail", "상세"),
    ("Device token", "기기 토큰"),
    ("Devices (0: any number)", "기기 수 (0: 제한 없음)"),
    ("Ends", "종료"),
    ("Ends (empty: no end)", "종료일 (비우면 없음)"),
    ("Fingerprint", "지문"),
    ("For", "대상"),
    ("Forget all devices", "모든 기기 삭제"),
    ("Gateways", "게이트웨이"),
    ("Holds", "유효 기간"),
    ("Holds from (empty: now)", "시작일 (비우면 지금)"),
    ("Key", "키"),
    ("Keys", "키"),
    ("Lanes", "레인"),
    ("Lanes up", "작동 중인 레인"),
    ("Last accepted push", "마지막 수락된 푸시"),
    ("Last used", "마지막 사용"),
    ("Let go", "해제"),
    ("Licences", "라이선스"),
    ("Life line", "기간 막대"),
    ("Limits", "한도"),
    ("Live keys", "사용 중인 키"),
    ("Made", "생성"),
    (
        "May push through another region when its own is down",
        "자기 지역이 중단되면 다른 지역을 통해 푸시할 수 있음",
    ),
    ("Message", "메시지"),
    ("Name", "이름"),
    ("New key", "새 키"),
    ("New licence", "새 라이선스"),
    ("New tenant", "새 테넌트"),
    ("Next page", "다음 페이지"),
    ("No app is set up; the configuration names them.", "설정된 앱이 없습니다. 앱은 구성 파일에 적습니다."),
    ("No end", "종료 없음"),
    ("No key yet.", "아직 키가 없습니다."),
    ("No licence yet: nothing can be pushed.", "아직 라이선스가 없어 푸시할 수 없습니다."),
    ("No tenant of this name.", "이 이름의 테넌트가 없습니다."),
    ("Nobody has pushed in the last minutes.", "최근 푸시한 테넌트가 없습니다."),
    ("None.", "없음."),
    ("None: gateway and worker are one process.", "없음: 게이트웨이와 워커가 한 프로세스입니다."),
    ("Not accepted yet", "아직 동의하지 않음"),
    ("Not found", "찾을 수 없음"),
    ("Note acceptance", "동의 기록"),
    ("Nothing was done yet.", "아직 기록이 없습니다."),
    ("Nothing. All is well.", "없음. 모두 정상입니다."),
    ("Old key lives on, hours", "이전 키 유지 시간"),
    ("Older", "이전"),
    ("Oldest, ms", "가장 오래된 것, ms"),
    ("Overview", "개요"),
    ("Pages", "페이지"),
    ("Plan", "요금제"),
    ("Platform", "플랫폼"),
    ("Privacy", "개인정보 정책"),
    ("Processes", "프로세스"),
    ("Provider", "공급자"),
    ("Push URL", "푸시 URL"),
    ("Push URL or licence key", "푸시 URL 또는 라이선스 키"),
    ("Pushes a second", "초당 푸시"),
    ("Pushes at once", "동시 푸시"),
    ("Pushes in flight (0: any number)", "처리 중 푸시 (0: 제한 없음)"),
    ("Queues", "대기열"),
    ("Reason", "사유"),
    ("Recent failures by reason", "최근 실패 사유"),
    ("Regions", "지역"),
    ("Removed devices", "제거된 기기"),
    ("Request id", "요청 ID"),
    ("Resume", "재개"),
    ("Revoke", "폐기"),
    ("Revoke now", "지금 폐기"),
    ("Save", "저장"),
    ("Search", "검색"),
    ("Search by name", "이름으로 검색"),
    ("Send", "보내기"),
    ("Server id", "서버 ID"),
    ("Servers", "서버"),
    ("Sign in", "로그인"),
    (
        "Sign in over https: a token must not travel in the clear.",
        "https로 로그인하세요. 토큰이 평문으로 전송되면 안 됩니다.",
    ),
    ("Sign out", "로그아웃"),
    ("Skip to content", "본문으로 건너뛰기"),
    ("State", "상태"),
    ("Suspend", "정지"),
    ("Suspended", "정지됨"),
    (
        "System Console › Environment › Push Notification Server",
        "System Console › Environment › Push Notification Server",
    ),
    ("Tenant", "테넌트"),
    ("Tenants", "테넌트"),
    ("Terms", "약관"),
    ("Terms version", "약관 버전"),
    ("Test push", "테스트 푸시"),
    ("That was refused", "거부되었습니다"),
    ("Check the whole log", "로그 전체 확인"),
    ("The chain is broken: somebody has changed the log.", "체인이 깨졌습니다. 누군가 로그를 변경했습니다."),
    ("No fault was found in what can be checked.", "확인할 수 있는 범위에서 이상이 없습니다."),
    ("What no check of the log alone can find:", "로그만으로는 확인할 수 없는 것:"),
    ("The service has a fault", "서비스에 문제가 있습니다"),
    ("This is the only time that the key is shown.", "키는 지금 한 번만 표시됩니다."),
    ("This page renews itself every two seconds.", "이 페이지는 2초마다 갱신됩니다."),
    ("This token is not one of ours, or its time is over.", "알 수 없는 토큰이거나 만료되었습니다."),
    ("To what", "대상"),
    (
        "Too many failed sign-ins from this address; try again in a minute.",
        "이 주소에서 로그인 실패가 너무 많습니다. 1분 후 다시 시도하세요.",
    ),
    ("Try it", "시험해 보기"),
    ("Under way", "처리 중"),
    ("Use", "사용량"),
    ("Waiting", "대기"),
    ("What", "작업"),
    ("What became of it", "결과"),
    (
        "What is known of its devices is deleted, and what their hashes were made with. This cannot be undone.",
        "기기 정보와 해시를 만든 값이 삭제됩니다. 되돌릴 수 없습니다.",
    ),
    ("What to look at", "확인할 사항"),
    ("What waits for each app", "앱별 대기"),
    ("When", "시각"),
    ("Who", "누가"),
    ("Window", "창"),
    ("Workers", "워커"),
    ("Write the tenant's name to confirm", "확인하려면 테넌트 이름을 입력하세요"),
    ("any number", "제한 없음"),
    ("at once", "동시"),
    ("devices", "기기"),
    ("events", "건"),
    ("gateway", "게이트웨이"),
    ("grace until", "유예 종료"),
    ("in flight", "처리 중"),
    ("jobs", "작업"),
    ("worker", "워커"),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Every sentence that the pages ask for, found in their sources.
    fn asked() -> Vec<String> {
        let sources = [
            include_str!("layout.rs"),
            include_str!("licences.rs"),
            include_str!("overview.rs"),
            include_str!("sign_in.rs"),
            include_str!("tenants.rs"),
        ];
        let mut asked = Vec::new();
        for source in sources {
            for part in source.split("t(\"").skip(1) {
                asked.push(part.split('"').next().unwrap().to_owned());
            }
        }
        asked.retain(|it| it.starts_with(char::is_alphabetic) || it.contains('›'));
        asked
    }

    #[test]
    fn every_sentence_of_the_console_is_there_in_korean() {
        for english in asked() {
            if english.starts_with("hpns_") || english.contains('/') {
                continue;
            }
            let known = KOREAN.iter().any(|(known, _)| *known == english);
            let is_word = english.chars().next().is_some_and(char::is_uppercase)
                || KOREAN.iter().any(|(it, _)| *it == english);
            assert!(known || !is_word, "{english}");
        }
    }

    #[test]
    fn no_sentence_stands_twice_in_the_table() {
        let mut sentences: Vec<_> = KOREAN.iter().map(|(english, _)| english).collect();
        sentences.sort();
        let all = sentences.len();
        sentences.dedup();

        assert_eq!(sentences.len(), all);
    }

    #[test]
    fn the_chosen_language_goes_before_the_browsers() {
        let language = |accept: &str, cookie: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_LANGUAGE, accept.parse().unwrap());
            headers.insert(http::header::COOKIE, cookie.parse().unwrap());
            Language::of_request(&headers)
        };

        assert_eq!(language("ko-KR,ko;q=0.9", ""), Language::Korean);
        assert_eq!(language("de", ""), Language::English);
        assert_eq!(language("ko", "a=b; hpns_language=en"), Language::English);
    }

    #[test]
    fn an_alerts_numbers_stand_in_its_korean_sentence() {
        let alert = AlertView {
            kind: "new_devices".into(),
            severity: "warning".into(),
            object: String::new(),
            name: String::new(),
            text: "120 new devices today, 10 in the week before".into(),
        };

        assert_eq!(Language::Korean.sentence(&alert), "오늘 새 기기 120대, 지난 한 주 10대");
    }
}
