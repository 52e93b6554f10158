// The thread that compares passwords with bcrypt hashes: one comparison for each message.
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
  // Each cost step doubles the work: one run of each cost from the hash's on adds up to a single run of `cost`.
  for (let step = costOf(hash); step < cost; step++) compareSync(password, hashOfNothing(step));
  parentPort?.postMessage(isEqual);
});
