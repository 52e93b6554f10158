// The thread that compares passwords with bcrypt hashes: each message is one comparison, each answer whether they are equal.
import { parentPort } from 'node:worker_threads';
import { compareSync } from 'bcryptjs';

parentPort?.on('message', ({ password, hash }: { password: string; hash: string }) => {
  parentPort?.postMessage(compareSync(password, hash));
});
