// A relay in front of a Veneer that knows who waits: a test sees that a pull has come, before it is answered.
import { once } from 'node:events';
import { createServer, request } from 'node:http';
import type { Server } from './daemons.ts';

export interface Relay extends Server {
  /** How many requests whose path matches have come so far. */
  count(path: RegExp): number;
}

export async function startRelay(target: string): Promise<Relay> {
  const paths: string[] = [];
  const server = createServer((incoming, outgoing) => {
    const { method, url: path = '', headers } = incoming;
    paths.push(path);
    const passed = request(`http://${target}`, { method, path, headers }, answer => {
      outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(outgoing);
    });
    passed.on('error', () => outgoing.destroy());
    outgoing.on('close', () => passed.destroy());
    incoming.pipe(passed);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = Object(server.address());
  return {
    address: `127.0.0.1:${port}`,
    count: path => paths.filter(one => path.test(one)).length,
    async stop() {
      server.closeAllConnections();
      await new Promise(resolve => server.close(resolve));
    },
  };
}
