package tunneltest

import (
	"slices"

	"sstproxy/tunnel/sstp"
)

// login reports whether a user may have one more session, c, and notes it.
func (s *Server) login(user string, c *Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	sessions := s.users[user]
	if slices.Contains(sessions, c) {
		return true // challenged again
	}
	if bound := s.cfg.MaxSessions; bound > 0 && len(sessions) >= bound {
		if !s.cfg.EndsOldest {
			return false
		}
		sessions[0].Disconnect(sstp.StatusNoError)
		sessions = slices.Delete(sessions, 0, 1)
	}
	s.users[user] = append(sessions, c)
	return true
}

// logout forgets a session that has ended.
func (s *Server) logout(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for user, sessions := range s.users {
		sessions = slices.DeleteFunc(sessions, func(o *Conn) bool { return o == c })
		if s.users[user] = sessions; len(sessions) == 0 {
			delete(s.users, user)
		}
	}
}
