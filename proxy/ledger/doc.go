// Package ledger holds Postern to its two promises: no mail is lost, and none is doubled in silence.
//
// It has tests only. They run the built program between a scripted client, which sends on like a mail server does until
// it has a final answer for each recipient, and scripted next hops, and have one thing go wrong at a time: a connection is
// closed, reset or stalled, a reply is refused, garbled, cut or torn into packets, at each step of the protocol and at each
// octet of a message that matters, on either side; the name servers die; the disk is full; the program itself is killed.
//
// A book keeps for every message and recipient what the client was told and how many copies the next hop took. In the end
//
//   - who was told 250 must be in the next hop's hands, with the very bytes that the client sent: else it is lost;
//   - two copies need a line of the log that says redelivery=in_doubt: else it is a silent double;
//   - a client is told 5xx only where the next hop said so, or the client itself spoke nonsense: else it is a false refusal;
//   - every message must come to a final answer once the fault is over: else it is stuck.
//
// The tests are TestFaults, TestNameServersDie, TestDisksFill and TestKills. A run takes a part of all faults, chosen by
// a seed; POSTERN_FULL=1 takes all of them and kills 500 times. A run can be repeated and its size chosen:
//
//	POSTERN_SEED=7 POSTERN_FAULTS=200 POSTERN_KILLS=50 go test -v ./proxy/ledger
//	POSTERN_FULL=1 POSTERN_TABLE=/tmp/table.md go test -v -timeout 60m ./proxy/ledger
//
// With -v, or where something is wrong, it prints a table of fault and outcome; POSTERN_TABLE names a file for it.
package ledger
