package zone

// Reply gives the packets with which a server of z answers packet over UDP.
func Reply(z *Zone, packet []byte) [][]byte {
	q, ok := parseQuery(packet)
	if !ok {
		return nil
	}
	s := &Server{zone: z, packed: make(map[packedKey][]byte)}
	return s.replies(q, true)
}
