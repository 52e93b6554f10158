// A process that owns the directory that it is given, and lets go of it when it is told to, until its input ends.
import { ownDirectory } from '../../src/state/owner.ts';

const [, , directory = ''] = process.argv;
const owner = ownDirectory(directory);
process.stdout.write('owned\n');
process.stdin.on('data', () => {
  owner.release();
  process.stdout.write('released\n');
});
