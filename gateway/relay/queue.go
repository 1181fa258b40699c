package relay

// debt is a reply that a requester waits for.
type debt struct {
	refused bool   // the gateway owes it; otherwise the other side does
	number  uint64 // of the refused request
	effect  effect // of a success
	starts  bool   // it says whether a program runs whose files are guarded
}

// queue holds debts in the order of their requests. Between steps a refused debt is never at its head: it would have
// been paid.
type queue struct {
	debts []debt
	head  int
}

func (q *queue) len() int { return len(q.debts) - q.head }

func (q *queue) push(d debt) {
	if q.head > 0 && len(q.debts) == cap(q.debts) {
		n := copy(q.debts, q.debts[q.head:])
		q.debts, q.head = q.debts[:n], 0
	}
	q.debts = append(q.debts, d)
}

func (q *queue) first() debt { return q.debts[q.head] }

func (q *queue) pop() {
	q.head++
	if q.head == len(q.debts) {
		q.debts, q.head = q.debts[:0], 0
	}
}
