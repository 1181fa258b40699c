package commands_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// mutant is a rule of the mesh switched off in the source.
type mutant struct {
	rule     string
	file     string // below commands
	old, new string
	pkg, run string // the tests that have to find it
}

var mutants = []mutant{
	{"R1 act before it is on record", "rotation/act.go", "	records, err := m.cfg.Dispatcher.Do(ctx, m.actor, say)\n",
		"	_, _ = change.Change(ctx, w.job, next)\n	records, err := m.cfg.Dispatcher.Do(ctx, m.actor, say)\n", "./rotation", "TestNoWorkingSecretIsEverLost|TestRunAndAwait"},
	{"R2 reset before the account changes its own", "rotation/plan.go", "verb := events.ChangeAsItself // rule R2", "verb := events.ChangePrivileged",
		"./rotation", "TestNoWorkingSecretIsEverLost|TestRunAndAwait"},
	{"R3 two claims are no contest", "aggregate/credential.go", "|| slices.ContainsFunc(c.truth,", "|| false && slices.ContainsFunc(c.truth,",
		"./rotation", "TestSitesThatRotateTheSameSecret"},
	{"R3 each site spends the whole budget", "aggregate/budget.go", "share, parts := all/n,", "share, parts := all/min(1, n),", "./aggregate", "TestAttackBudgetsNeverAddUp"},
	{"R3 what a fenced site still logs in is forgotten", "aggregate/budget.go", "s.unheardOf(g, a.Credential, at, now).N > 0 || ", "", "./aggregate", "TestLoginsOfAFencedSite"},
	{"R3 a fenced site spends what is the others'", "aggregate/unheard.go", "return min(n, max(0, all-1))", "return n * 16", "./aggregate", "TestAttackLoginsOfAFencedSite"},
	{"R3 logins in a branch are forgotten", "aggregate/budget.go", "\ts.addUnheard(tries, a, site, since, now)\n", "", "./aggregate", "TestLoginsInABranchCount"},
	{"R3 the alarm stays", "aggregate/credential.go", "at != nil && !m.Knows(at)", "at != nil && false", "./rotation", "TestSitesThatRotateTheSameSecret"},
	{"R4 a session presents one version only", "lockout/login.go", "const maxPresented = 2", "const maxPresented = 1", "./rotation", "TestSnapshotIsFoundBySessions"},
	{"R5 no candidate but the newest is kept", "aggregate/credential.go", "const keptCandidates = 3", "const keptCandidates = -1", "./rotation", "TestNoWorkingSecretIsEverLost|TestSnapshotIsFoundBySessions"},
	{"R6 the newest limit counts, not the strictest", "aggregate/target.go", "if limit == 0 || v.value != 0 && v.value < limit {", "if true {", "./aggregate", "TestTheStrictestLimitCounts"},
	{"R6 a name in conflict stands for one", "aggregate/target.go", "	switch len(ids) {\n	case 0:\n		return nil, ErrUnknown\n	case 1:", "	switch len(ids) {\n	case 0:\n		return nil, ErrUnknown\n	default:", ".", "InConflict"},
	{"R7 a removed account takes its secret along", "aggregate/archive.go", "		a.remove(at)\n", "		a.remove(at)\n		delete(s.credentials, a.Credential)\n", ".", "TestRemovedAccountsKeepTheirSecrets"},
	{"R7 a removal is never contested", "aggregate/archive.go", "return m.Knows(c.at) }) ||", "return true }) ||", ".", "TestRemovedHereAndRotatedThere|TestATargetIsRemoved"},
	{"R7 a restore wins over a removal that it did not know of", "aggregate/archive.go", "return r.Knows(m) && !s.suspended(r)", "return !s.suspended(r)", ".", "TestRemovedAndRestored"},
	{"R7 the disabled restore elsewhere", "aggregate/archive.go", "return r.Knows(m) && !s.suspended(r)", "return r.Knows(m)", ".", "TestAttackRestore"},
	{"R7 grants come back with their account", "aggregate/grant.go", "return g.Selector == \"\" && s.over(", "return false && s.over(", ".", "TestWhatWasRemovedByMistake"},
	{"R7 sessions outlive the removal of their account", "aggregate/session.go", "	if s.over(n.Account, n.Started) {", "	if false {", ".", "TestWhatWasRemovedByMistake"},
	{"R7 requests come back with their account", "aggregate/standing.go", "	if s.over(r.Account, r.Made) {", "	if false {", ".", "TestWhatWasRemovedByMistake"},
	{"R8 a grant outlives a revocation that it did not know of", "aggregate/grant.go", "return !g.Added.Knows(m) })", "return false })", "./aggregate", "Revocation|Agrees"},
	{"R9 what the disabled did elsewhere counts", "aggregate/state.go", "		if !d.Knows(m) {\n			return true", "		if !d.Knows(m) {\n			return false", "./aggregate", "Suspended|Agrees"},
	{"R10 nobody needs news", "stale.go", "if !strict || env.Silence == nil {", "if true || !strict || env.Silence == nil {", ".", "TestStrictRolesNeedNews"},
	{"R10 a clock that is ahead makes news", "dispatcher.go", "if age < -aheadOfUs {", "if false {", ".", "TestAttackAClockThatIsAheadIsNoNews"},
	{"R10 nobody says that it is there", "../site/stale.go", "if sites > 2 && ", "if sites > 20 && ", "../site", "TestNewsByWayOfAnotherSite"},
	{"R11 any site checks out", "reveal_secret.go", "s.Owner(a) != env.Log.Site {", "false {", ".", "TestExclusiveSecretsAcrossACut"},
	{"R11 two leases are no breach", "aggregate/disclosure.go", "return len(c.Leases()) > 1", "return false", ".", "TestExclusiveSecretsAcrossACut"},
	{"R12 any log spends an approval", "aggregate/standing.go", "!r.BreakGlass && s.Redeemer(r) != log", "false", ".", "TestAnApprovalIsSpentOnceAcrossACut"},
	{"R12 any site spends a code", "aggregate/factor.go", "if owner != at.Origin.Site {", "if false && owner != at.Origin.Site {", ".", "TestFactorsAcrossACut"},
	{"members: a role means nothing", "aggregate/member.go", "if !slices.Contains(areasOf(known), area) {", "if false {", "./aggregate", "Rogue|Member"},
	{"members: who admits gives what it has not", "aggregate/member.go", "if at.Origin.Site != s.mesh.founder {\n		areas", "if false {\n		areas", "./aggregate", "RogueSteward"},
	{"members: identities of before count", "aggregate/member.go", "if area == events.AreaAccess || area == events.AreaMesh {", "if false {", "./aggregate", "BeforeJoining"},
	{"members: who knows of no admission may decide", "aggregate/member.go", "case area != events.AreaSessions:", "case false:", "./aggregate", "Rogue"},
	{"members: a site speaks for another", "aggregate/member.go", "if h.Stream != h.Site.UUID {", "if false {", "./aggregate", "Rogue"},
	{"members: a past that others tell", "aggregate/member.go", "if e.Origin.Site == site {", "if true || e.Origin.Site == site {", "./aggregate", "TestAttackThePastOfAThirdSite"},
	{"members: a second founder", "aggregate/mesh.go", "(at.Origin.Site != id || !s.mesh.founder.IsZero() && s.mesh.founder != id)", "at.Origin.Site != id", "./aggregate", "Rogue"},
	{"members: strangers count", "aggregate/state.go", "if s.stranger(h.Site) {", "if false {", "./aggregate", "Stranger|NothingOfASite|BeforeJoining"},
	{"members: the order of arrival decides", "aggregate/state.go", "|| s.unknownTo(at, h) || ", "|| ", "./aggregate", "DidNotKnow"},
	{"members: other sites end sessions", "aggregate/session.go", "if !n.isOf(at) {\n			return false // only", "if false {\n			return false // only", "./aggregate", "Rogue"},
	{"R3 a site that is heard is not waited for", "aggregate/rotation.go", "silence(by) >= lostAfter", "silence(by) >= 0", "./rotation", "TestASiteThatIsHeardIsWaitedFor"},
	{"R3 a lost site is waited for", "aggregate/rotation.go", "silence(by) >= lostAfter", "false", "./rotation", "TestARotationThatIsStillElsewhere|TestWhatALostSiteLeftOpen"},
	{"R11 a check-out is given while a rotation elsewhere waits", "reveal_secret.go", "if !r.LostTo(env.Log.Site, env.Silence) {", "if !r.LostTo(env.Log.Site, env.Silence) && !r.Waits() {", "./rotation", "TestNoCheckOutWhileARotationElsewhereWaits"},
	{"R3 no pause while another site's change is open", "rotation/plan.go", "if accepted > 0 {", "if false {", "./rotation", "TestAChangeThatASiteNeverAnswersFor"},
	{"R1 act before it is on record, in a mesh", "rotation/act.go", "	records, err := m.cfg.Dispatcher.Do(ctx, m.actor, say)\n",
		"	_, _ = change.Change(ctx, w.job, next)\n	records, err := m.cfg.Dispatcher.Do(ctx, m.actor, say)\n", "./rotation", "TestSitesOfAMesh"},
	{"R1 a site that is gone is waited for", "rotation/copies.go", "(!moved || d.Holder == m.Site)", "(!moved || d.Term > 0)", "./rotation", "TestNoScheduleWaitsForASiteThatIsGone"},
	{"members: sessions of a site that is gone take places", "aggregate/session.go", " && !s.Abandoned(n, here) {", " {", ".", "TestSessionsOfASiteThatIsGone"},
	{"R20 what bars is passed over", "aggregate/newer.go", "!folded && !events.Bars(h.Type) {", "!folded || true {", ".", "Newer|Bars"},
	{"R20 a site bars that it is fenced", "aggregate/newer.go", ` || eventType == "site.fenced"`, "", ".", "TestAttackAMemberThat"},
	{"R20 a member bars anything", "aggregate/newer.go", `slices.Contains(b.areas, area) ||`, `true ||`, ".", "TestAttackAMember(Bars|That)"},
	{"R1 a second copy is not waited for", "rotation/act.go", "Alone: !m.cfg.Copies.Held(ctx, w.staged, w.stagedAt)}", "Alone: false}", "./rotation", "TestSitesOfAMesh"},
	{"R1 what one site alone holds is sent", "rotation/act.go", "if say.Alone && !w.alone {", "if false {", "./rotation", "TestSitesOfAMesh"},
	{"R1 schedules do not wait for a site that can hold the secret", "rotation/obligations.go", "!o.SettleOnly && m.Isolated(s, a, o.Why)", "false", "./rotation", "TestSchedulesWaitForASecondSite"},
	{"R3 each site spends the whole budget, in a mesh", "aggregate/budget.go", "share, parts := all/n,", "share, parts := all/min(1, n),", "./rotation", "TestSitesOfAMesh"},
	{"R12 any log spends an approval, in a mesh", "aggregate/standing.go", "!r.BreakGlass && s.Redeemer(r) != log", "false", "./rotation", "TestSitesOfAMesh"},
	{"R13 duties never move", "aggregate/duty.go", "if d := s.lastMove(a.Added, a.Target, true); d != nil {\n		return d.Holder", "if d := s.lastMove(a.Added, a.Target, true); false {\n		return d.Holder",
		"./aggregate", "Takeover"},
	{"R13 scheduled work is planned without a lease", "rotation/lease.go", "return m.cfg.Lease()", "return m.cfg.Lease() + math.MaxInt64", "./rotation", "Lease"},
	{"R13 a call outlives the lease", "rotation/lease.go", "ctx, cancel := context.WithTimeout(ctx, left)", "ctx, cancel := context.WithCancel(ctx)", "./rotation", "Lease"},
	{"R13 whom nobody named succeeds", "name_successor.go", "if !named || n.Successor != self {", "if false && (!named || n.Successor != self) {", ".", "TestAttackSuccession"},
	{"R13 another site names the successor", "aggregate/succession.go", "if at.Origin.Site != of {", "if false {", "./aggregate", "TestHeirs"},
	{"R13 a successor does not wait", "name_successor.go", "c.Silent < after {", "false {", ".", "TestAttackSuccession"},
	{"R13 a lease takes requests along", "aggregate/duty.go", "d.covers(target) && (rotations || !d.Scheduled) && !begun.Knows(d.At)", "d.covers(target) && !begun.Knows(d.At)", "./aggregate", "TestATakeoverOfWhatIsScheduled"},
	{"R13 of two takers each is one to itself", "aggregate/duty.go", "return cmp.Or(cmp.Compare(d.Term, other.Term), other.At.Origin.Compare(d.At.Origin), cmp.Compare(d.At.Position, other.At.Position))",
		"return cmp.Compare(d.Term, other.Term)", "./aggregate", "TestTakeoversThatDidNotHear"},
	{"R13 who lost its duties goes on", "aggregate/duty.go", "return d != nil && !d.Given && d.Holder", "return false && !d.Given && d.Holder", "./aggregate", "TestRotationsAfterATakeover"},
	{"R14 a log counts beyond its fork", "aggregate/hold.go", "		if f.Log.Kind == events.Ctl {\n			cut(f.Log, f.Size)", "		if false {\n			cut(f.Log, f.Size)", "./aggregate", "TestAForkHoldsItsLog"},
	{"R14 anybody's word on a fork counts", "aggregate/hold.go", "f.proven = f.proven || s.cuts.check == nil || ", "f.proven = true || ", "./aggregate", "TestAForkHoldsItsLog"},
	{"R14 a word in one branch counts", "aggregate/hold.go", "s.inBranch(least.At) && !s.inBranch(f.At) || s.inBranch(least.At) == s.inBranch(f.At) && ", "", "./aggregate", "TestWhatIsSaidInABranch"},
	{"R14 what was staged where a log does not count is lost", "aggregate/tail.go", "return r.sent || r.last && !r.over", "return r.sent", "./aggregate", "TestASecretThatWasStagedBeyond"},
	{"R14 a fence cuts nothing", "aggregate/hold.go", "if s.cutsNow(f, 0) {", "if false {", "./aggregate", "TestAFenceCutsBySize"},
	{"R15 a copy goes on in its logs", "../site/doubt.go", "if string(b) != inode+\"\\n\" {", "if string(b) == inode {", "../site", "TestACopyOfASite|TestMarker"},
	{"R15 the log that comes first tells the end", "aggregate/session.go", "	if at.Origin != n.Started.Origin {", "	if false {", "./aggregate", "TestEndsThatAreToldInTwoLogs"},
	{"R15 what was sent in a lost log is not tried", "aggregate/credential.go", "case len(v.sends) == 0:", "case false:", "./rotation", "TestAVersionThatWasSentInWhatWasLost"},
	{"R15 what is damaged stays so", "../site/doubt.go", "if err := s.salvageLogs(ctx); err != nil {", "if err := ctx.Err(); err != nil {", "../site", "TestADamagedLogComesBackFromAPeer"},
	{"R16 what is written sorts by its own clock alone", "../site/others.go", "		s.meetClock(&r.Header)\n", "		_ = r\n", "../site", "TestWhatIsWrittenSortsAfterItsCauses"},
	{"R16 a wrong clock spreads", "../events/hlc.go", "ahead > MaxAhead.Milliseconds()", "false && ahead > 0", "../site", "TestWhatIsWrittenSortsAfterItsCauses"},
	{"R18 who left stays a custodian", "aggregate/custody.go", "!s.Fenced(site) && !s.Left(site)", "!s.Fenced(site)", "./aggregate", "TestCustodyEndsWhenASiteLeaves"},
	{"R18 what follows the last word counts", "aggregate/leaving.go", "if w.at.Origin == o && (", "if false && (", "./aggregate", "TestNothingCountsAfterTheLastWord"},
	{"R18 another epoch of who left counts", "aggregate/leaving.go", "			return 0, true\n", "			continue\n", "./aggregate", "TestAttackAnotherEpoch"},
	{"R18 who had heard least closes", "aggregate/leaving.go", "size, ends = max(size, at), true", "if !ends || at < size {\n			size = at\n		}\n		ends = true", "./aggregate", "TestAttackASecondLastWord"},
	{"R18 a fork takes the last word back", "aggregate/leaving.go", "len(s.cuts.left[site]) > 0 || s.Closed(site)", "len(s.cuts.left[site]) > 0", "./aggregate", "TestAttackTheLastWordIsForkedAway"},
	{"R18 who stays is closed", "aggregate/leaving.go", "return len(s.cuts.left[site]) > 0 || slices", "return true || slices", "./aggregate", "TestAttackAStewardClosesWhoStays"},
	{"R18 anybody closes", "aggregate/member.go", "\"site.closed\": events.AreaMesh,", "\"site.closed\": events.AreaSessions,", "./aggregate", "TestAttackAPeerClosesNothing"},
	{"R18 what follows the last word is asked for", "../events/mesh/source.go", "if lg.end < math.MaxUint64 {", "if lg.end < math.MaxUint64 && false {", "../events/mesh", "TestNothingIsSpread"},
	{"R18 what follows the last word is taken in", "../events/mesh/source.go", "case lg.ahead.Size() >= c.end(b.Origin):", "case false:", "../events/mesh", "TestAttackRecordsBeyondALastWord"},
	{"R18 what follows the last word is given on", "../events/mesh/push.go", "s.sent >= min(lg.size, s.to, c.end(o))", "s.sent >= min(lg.size, s.to)", "../events/mesh", "TestNothingIsSpread"},
	{"R18 a last word that nobody heard is not said again", "../site/mesh.go", "if !saying && s.leaves() {", "if saying && s.leaves() {", "../site", "TestLeavingIsCutShort"},
	{"R19 one person erases", "aggregate/erasure.go", "return !s.person(asker, w.at)[other] && ", "return true || !s.person(asker, w.at)[other] && ", "./aggregate", "TestAttackErasure|Undoes"},
	{"R19 who asked confirms", "erase.go", "if s.SamePerson(events.UserID{UUID: a.At.Actor.ID}, user) || ", "if false && s.SamePerson(events.UserID{UUID: a.At.Actor.ID}, user) || ", ".", "TestAttackErasingAlone"},
	{"R19 what runs is erased", "erase_session.go", "runs && !s.Abandoned(n, here) {", "runs && n == nil {", ".", "TestWhatCanNotBeErased"},
	{"R19 a key given afterwards undoes it", "aggregate/erasure.go", "!s.person(asker, w.at)[other]", "!s.person(asker, nil)[other]", "./aggregate", "Undoes"},
	{"R7 secrets are erased though a rotation did not know of it", "aggregate/erasure.go", "if unheard(v.made) || ", "if false && unheard(v.made) || ", "./aggregate", "TestErasedSecrets"},
	{"R7 secrets of an account in use are erased", "aggregate/erasure.go", "	return archived\n", "	return true\n", "./aggregate", "TestErasedSecrets"},
	{"R7 a target brings back what is erased", "restore_account.go", "erased && a.Target == t.ID && !a.Removed", "false && erased && a.Target == t.ID && !a.Removed", ".", "TestATargetComesBack"},
	{"R7 somebody is said to have seen an erased secret", "reveal_secret.go", "	if err := refuseErasedSecrets(s, a, t); err != nil {", "	if err := error(nil); err != nil {", ".", "TestAnErasedSecret"},
	{"R19 what was asked is confirmed twice", "aggregate/erasure.go", "return w.ask == a })", "return false })", ".", "TestAVoidErasure"},
	{"R19 keys of a void erasure are not asked for", "../site/lostkeys.go", "a.due(now, missing) {", "false && a.due(now, missing) {", "../site", "TestKeysOfAVoid"},
	{"R19 who is met is not asked for keys", "../site/lostkeys.go", "			a = asking{}", "			_ = asking{}", "../site", "TestKeysAreAskedFor"},
	{"R19 an edge erases", "aggregate/member.go", "\"erasure\": events.AreaSecrets", "\"erasure\": events.AreaSessions", "./aggregate", "TestAttackErasure"},
	{"R19 it is said and not done", "erasure/eraser.go", "err := e.destroy(d.keys)", "err := error(nil)", "./erasure", "TestErasedStays"},
	{"R19 the word of another disk counts", "aggregate/erasure.go", "o.Epoch > m.Origin.Epoch", "o.Epoch == 0", "./erasure", "TestErasedStays"},
	{"I12 an erased key is taken in again", "../events/seal/custody.go", "	if err := s.forgotten(id); err != nil {\n		return false, err\n	}\n	wraps, err := s.cfg.Table.Get(id)\n	if err != nil && !errors",
		"	wraps, err := s.cfg.Table.Get(id)\n	if err != nil && !errors", "./erasure", "TestErasedStays"},
	{"I12 what is erased is opened until it is destroyed", "../events/seal/sealer.go", "	if err := s.forgotten(id); err != nil {\n		return nil, err", "	if err := error(nil); err != nil {\n		return nil, err", "./erasure", "TestErasedStays"},
	{"I12 an old key table stays", "erasure/eraser.go", "len(keys) > 0 || say", "say", "./erasure", "TestErasedStays"},
	{"I12 a key that is being opened outlives its erasure", "../events/seal/sealer.go", "	s.making.RLock() // until it is held: an erasure meanwhile would miss it\n	defer s.making.RUnlock()\n", "", "../events/seal", "TestAttackErasedKey"},
	{"members: a site answers for the logins of another", "aggregate/credential.go", "a.at.Origin.Site == at.Origin.Site && at.Knows(a.at)", "at.Knows(a.at)", "./aggregate", "TestAttackALogin"},
	{"members: a site has a say in the rotation of another", "aggregate/rotation.go", "r.Planned.Origin.Site == at.Origin.Site && at.Knows(r.Planned) {\n			r.latest", "at.Knows(r.Planned) {\n			r.latest", "./aggregate", "TestAttackALogin"},
	{"members: an edge voids what another one makes", "aggregate/twin.go", "!s.mayMake(at, e) || s.alone(h.Type, at) {", "!s.mayMake(at, e) {", "./aggregate", "TestAttackBreakGlassOfAnEdge"},
	{"members: a check-out takes the place of another", "aggregate/disclosure.go", "append(c.leases[id], ", "append([]*Lease(nil), ", "./aggregate", "TestAttackALease|TestAttackNamedTwice"},
	{"members: two uses under one id are one", "aggregate/request.go", "r.redeemed[at.place()]", "r.redeemed[events.ClockEntry{}]", "./aggregate", "TestAttackApprovals"},
	{"members: another approval under its id prolongs a session", "aggregate/standing.go", "a.At.ID) && n.Started.Knows(a.At)", "a.At.ID)", "./aggregate", "TestAttackApprovals"},
	{"R20 a newer message ends the link", "../events/mesh/codec.go", "fmt.Errorf(\"number %d: %w\", b[0], ErrUnknownMessage)", "fmt.Errorf(\"number %d: %w\", b[0], ErrBadMessage)", "../events/mesh", "TestBadMessagesAreRefused"},
	{"R20 unknown events are not counted", "aggregate/state.go", "		if !catalogued[h.Type] {\n			s.counts.Unknown++", "		if false {\n			s.counts.Unknown++", "./aggregate", "TestRecordsWithoutAFoldAreCounted"},
	{"pairs: a peer's word is enough", "../events/mesh/pair.go", "lg != nil && h.Size == lg.size && h.Root == lg.root {", "lg != nil {", "../events/mesh", "TestAttackAPairClaimsWhatIsNotWritten"},
	{"pairs: a silent peer is waited for", "../events/mesh/pair.go", "case !p.degraded && waits && c.now >= at:", "case waits && at < 0:", "../events/mesh", "TestAPairDegradesAfterDetect"},
	{"pairs: a peer that is behind is not waited for", "../events/mesh/pair.go", "due := max(g.at, p.heard) + c.cfg.Detect", "due := g.at + c.cfg.Detect", "../events/mesh", "TestAPeerThatIsBehind"},
	{"pairs: restored however late", "../events/mesh/pair.go", "if c.now > p.asked+c.cfg.Detect {", "if false {", "../events/mesh", "TestAPairIsRestored"},
	{"members: payloads of what waits are read", "../site/others.go", "if s.waits(ctx, log, at+1) {", "if false && s.waits(ctx, log, at+1) {", "../site", "TestAttackRecordsThatWait"},
	{"R14 what lacks is tried again and again", "../site/hold.go", "return l.first.Position > 0 && state.At(l.first.Origin) >= l.first.Position", "return true", "../site", "TestAttackAStewardClaims"},
	{"links: everybody is asked again and again", "../events/mesh/source.go", "if best == nil || best == old && !stalled {", "if best == nil {", "../events/mesh", "TestNothingIsSentTwice"},
	{"links: silent sources take turns among themselves", "../events/mesh/source.go", "until < silentUntil", "until < silentUntil-silentUntil", "../events/mesh", "TestSilentSourcesDoNotHideTheGoodOne"},
	{"links: a source that gives nothing stays one", "../events/mesh/source.go", "stalled := old != nil && c.stalled(lg)", "stalled := false", "../events/mesh", "TestSimulationOfACore"},
}

// A mutant of a line that is not there any more tries nothing.
func TestMutantsFitTheSource(t *testing.T) {
	for _, m := range mutants {
		source, err := os.ReadFile(m.file)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(source), m.old); n != 1 {
			t.Errorf("%q: %s has %d times what is to be changed", m.rule, m.file, n)
		}
	}
}

// Each rule of the mesh is needed: with it switched off, tests fail.
func TestEachRuleOfTheMeshIsNeeded(t *testing.T) {
	if os.Getenv("HOLDFAST_TEST_FULL") == "" {
		t.Skip("set HOLDFAST_TEST_FULL=1: it compiles a package for every rule, some minutes in all")
	}
	for _, m := range mutants {
		t.Run(m.rule, func(t *testing.T) {
			began := time.Now()
			if out, err := m.test(t); err == nil {
				t.Errorf("no test of %s in %s notices:\n%s", m.run, m.pkg, out)
			} else if !strings.Contains(out, "--- FAIL") && !strings.Contains(out, "panic:") {
				t.Errorf("it was not a test that failed:\n%s", out)
			}
			t.Logf("%s", time.Since(began).Round(time.Millisecond))
		})
	}
}

// test runs tests of a package with the mutant in the place of its file.
func (m mutant) test(t *testing.T) (string, error) {
	t.Helper()
	path, err := filepath.Abs(m.file)
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(source), m.old) != 1 {
		t.Fatalf("%s has %d times what is to be changed: %q", m.file, strings.Count(string(source), m.old), m.old)
	}
	dir := t.TempDir()
	changed, overlay := filepath.Join(dir, "changed.go"), filepath.Join(dir, "overlay.json")
	list, err := json.Marshal(map[string]map[string]string{"Replace": {path: changed}})
	for name, content := range map[string][]byte{changed: []byte(strings.Replace(string(source), m.old, m.new, 1)), overlay: list} {
		if err == nil {
			err = os.WriteFile(name, content, 0o600)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "test", "-vet=off", "-overlay", overlay, "-run", m.run, m.pkg)
	cmd.Env = append(os.Environ(), "HOLDFAST_TEST_FULL=") // what CI runs has to notice
	out, err := cmd.CombinedOutput()
	return string(out), err
}
