// The thread that compares passwords with bcrypt hashes: each message is one comparison, each answer whether they are equal.
import { parentPort } from 'node:worker_threads';
import { compareSync } from 'bcryptjs';
import { costOf, hashOfNothing } from './user-file.ts';

interface Comparison {
  readonly password: string;
  readonly hash: string;
  readonly cost: number;
}

parentPort?.on('message', ({ password, hash, cost }: Comparison) => {
  const isEqual = compareSync(password, hash);
  // Each step doubles the work: one of each, from that of the hash on, make up for the one step that `cost` is.
  for (let step = costOf(hash); step < cost; step++) compareSync(password, hashOfNothing(step));
  parentPort?.postMessage(isEqual);
});
