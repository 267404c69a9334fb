/* Tell the service manager how we are: systemd's notification protocol. */
#ifndef BASE_NOTIFY_H
#define BASE_NOTIFY_H

/* Send @state, e.g. "READY=1", as one datagram to the socket that NOTIFY_SOCKET
 * names.  Nothing when it names none, or when nobody takes it: a program does not
 * depend on who started it.  From main. */
void base_notify(const char *state);

#endif
