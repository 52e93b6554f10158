// Referrers of pushed manifests, in one process.
import { startServer } from '../support/server.ts';
import { testReferrers } from './referrers.ts';

testReferrers(startServer);
