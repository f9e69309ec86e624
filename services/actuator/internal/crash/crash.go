// Package crash names the moments at which dying is most awkward, so that
// tests can make the process die there. In a normal build At does nothing; in
// one with the build tag "crashpoints", At kills the process the hard way at
// the point that the environment variable SELFHEAL_CRASH_AT names, or stops it
// there until it is told to continue if SELFHEAL_CRASH_SIGNAL is STOP.
package crash

// A Point is one such moment while a decision is carried out.
type Point string

// The points, in the order in which a decision passes them.
const (
	AfterFetch           Point = "after_fetch"             // the decision was received
	AfterClaim           Point = "after_claim"             // it is ours in the ledger
	AfterPrecheck        Point = "after_precheck"          // the live guards have passed
	AfterDryRun          Point = "after_dryrun"            // the API server would accept the request
	BeforeAPI            Point = "before_api"              // the intent is recorded
	AfterAPIBeforeRecord Point = "after_api_before_record" // the cluster is changed, the ledger does not know
	AfterRecordBeforeAck Point = "after_record_before_ack" // the result is recorded, nobody has heard of it
)

// Points is every point.
var Points = []Point{AfterFetch, AfterClaim, AfterPrecheck, AfterDryRun, BeforeAPI, AfterAPIBeforeRecord, AfterRecordBeforeAck}
