// A relay in front of a registry or a Veneer that knows who has come: a test sees that a request is there, before it is answered.
import { once } from 'node:events';
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import type { Server } from './daemons.ts';

export interface Relay extends Server {
  /** Paths that were asked for, from the first. */
  readonly paths: readonly string[];
  /** How many requests whose path matches have come so far. */
  count(path: RegExp): number;
}

/** Passes the body of an answer on: its status line and headers have been. */
export type PassBody = (answer: IncomingMessage, outgoing: ServerResponse, incoming: IncomingMessage) => void;

/** `target` is host:port. What `refuse` answers itself, for which it returns true, is not passed on. */
export async function startRelay(
  target: string,
  passBody: PassBody = (answer, outgoing) => answer.pipe(outgoing),
  refuse: (incoming: IncomingMessage, outgoing: ServerResponse) => boolean = () => false,
): Promise<Relay> {
  const paths: string[] = [];
  const server = createServer((incoming, outgoing) => {
    const { method, url: path = '', headers } = incoming;
    paths.push(path);
    if (refuse(incoming, outgoing)) return;
    const passed = request(`http://${target}`, { method, path, headers }, answer => {
      outgoing.writeHead(answer.statusCode ?? 502, answer.statusMessage, answer.headers);
      passBody(answer, outgoing, incoming);
    });
    passed.on('error', () => outgoing.destroy());
    outgoing.on('close', () => passed.destroy());
    incoming.pipe(passed);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = Object(server.address());
  return {
    address: `127.0.0.1:${port}`,
    paths,
    count: path => paths.filter(one => path.test(one)).length,
    async stop() {
      server.closeAllConnections();
      await new Promise(resolve => server.close(resolve));
    },
  };
}
