// A worker thread that reads all pages of the records and checks their integrity, without blocking anything else.
import { DatabaseSync } from 'node:sqlite';
import { parentPort, workerData } from 'node:worker_threads';
import { quickCheck } from './schema.ts';

const { path }: { readonly path: string } = workerData;
const database = new DatabaseSync(path, { readOnly: true });
const verdict = quickCheck(database);
database.close();
parentPort?.postMessage(verdict);
