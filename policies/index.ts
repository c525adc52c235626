/**
 * Every decision of the algorithm (paper 002), as pure functions over the policy document: step 1 `direction.ts`, step 2
 * `technique.ts`, step 3 `strategy.ts` and `admission.ts`, step 4 `reservation.ts`; the document is `document.ts`. Each
 * decision carries its reasons.
 */
export { type Admission, type AdmissionItem, admit } from './admission.ts';
export { type ConvergenceWatch, type PassSeen, watchPasses } from './convergence.ts';
export {
  type CopyConditions,
  type CopyCost,
  type CopyState,
  copyCost,
  deniedBps,
  type GuestModel,
  type Harm,
  type HarmedLink,
  HOST_COSTS,
  type HostCosts,
  harmOf,
  type Prediction,
  predictCopy,
  predictRest,
  silenceMs,
} from './cost/index.ts';
export type { Decided } from './decided.ts';
export { classifyDirection, type TrafficSeen } from './direction.ts';
export {
  type CompiledPolicy,
  compilePolicy,
  type Evaluation,
  parsePolicy,
  policyProblems,
  type ReservationName,
  strategyEntry,
  tableEntry,
  withDefaults,
} from './document.ts';
export { applyPolicyPatch, flattenPolicy, unflattenPolicy } from './documentEdits.ts';
export { splitPath, valueAt } from './documentPaths.ts';
export { type PolicyProblem, problemText } from './documentProblems.ts';
export { effectivePolicy, type OverrideRule, overrideRules, type PolicySubject } from './effective.ts';
export {
  type ExplainInputs,
  explainSetting,
  explainSubject,
  isSetting,
  notASetting,
  type PolicyExplanation,
  rulesOfSubject,
  type SubjectRule,
  type ValueRule,
} from './explain.ts';
export {
  compileExpression,
  type Expression,
  type ExpressionOptions,
  VARIABLES,
  type Variables,
} from './expressions.ts';
export {
  copyLeftMs,
  type Forecast,
  forecastCopy,
  OVERHEAD_MS,
  REPORTED_MS,
  SUPPOSED,
  type Supposed,
} from './forecast.ts';
export { turnedRound } from './priorityOrder.ts';
export { policyReference } from './reference.ts';
export {
  estimateDemand,
  type LinkLoad,
  type LinkReservation,
  type Reservation,
  reserve,
  type SliceClaim,
  type SliceDecision,
} from './reservation.ts';
export { chooseStrategy, contentionOf } from './strategy.ts';
export { chooseTechnique, type TechniqueQuestion } from './technique.ts';
