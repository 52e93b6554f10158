// The memory store keeps the contract.
import { recordStoreContract } from '../contract/record-store.ts';
import { createMemoryStore } from '../support/memory-records.ts';

recordStoreContract(async ({ now }) => createMemoryStore({ now }));
