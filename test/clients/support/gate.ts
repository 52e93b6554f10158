// A gate in the middle of a build: a step arrives, and continues when the test opens it.
import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import { expect } from 'vitest';
import { listCommandLines } from '../../support/command-lines.ts';
import type { Running } from './process.ts';
import { waitUntil } from './process.ts';

export interface Gate extends Running {
  /** The command of a RUN that waits at the gate. The mark is its own, for no builder to have it in its cache, and in its command line. */
  command(mark: string): string;
  /** How many wait there now. */
  countWaiting(mark: string): number;
  /** The command lines of the processes that this machine has for such steps. */
  listSteps(mark: string): readonly string[];
  /** Resolves when so many wait there. */
  arrive(mark: string, count?: number): Promise<void>;
  /** Anyone who waits continues, and anyone who comes later does not wait. */
  open(mark: string): void;
}

/** Builders reach it where their steps have the network of this machine. */
export async function startGate(): Promise<Gate> {
  const waiting = new Map<string, Set<ServerResponse>>();
  const opened = new Set<string>();
  const server = createServer(({ url = '' }, response) => {
    const mark = url.slice(1);
    if (opened.has(mark)) return void response.end();
    const others = waiting.get(mark) ?? new Set();
    waiting.set(mark, others.add(response));
    response.once('close', () => others.delete(response));
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = Object(server.address());
  const countWaiting = (mark: string) => waiting.get(mark)?.size ?? 0;

  return {
    command: mark => `wget -q -O /dev/null http://127.0.0.1:${port}/${mark}`,
    countWaiting,
    listSteps: mark => listCommandLines(new RegExp(`127\\.0\\.0\\.1:${port}/${mark}$`)),
    arrive: (mark, count = 1) => waitUntil(async () => expect(countWaiting(mark), mark).toBe(count)),
    open(mark) {
      opened.add(mark);
      for (const response of waiting.get(mark) ?? []) response.end();
    },
    async stop() {
      server.closeAllConnections();
      await new Promise(resolve => server.close(resolve));
    },
  };
}
